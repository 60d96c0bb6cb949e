"""A run directory is enough for an export."""

from __future__ import annotations

import numpy as np

from export import verify
from export.saved_model import export
from zforcing_tf.data import registry
from zforcing_tf.errors import UserError


def test_without_the_data_it_is_tried_on_what_the_model_makes(
    run_dir, tmp_path, monkeypatch, caplog
):
    """The run directory is enough; the verification is as real as with data."""

    def gone(*_: object) -> None:
        raise UserError("the data is gone")

    splits, expectations = [], verify.expectations

    def recorded(model, listing, split, wanted):
        splits.append(split)
        return expectations(model, listing, split, wanted)

    monkeypatch.setattr(registry, "load", gone)
    monkeypatch.setattr(verify, "expectations", recorded)
    assert (export(run_dir, tmp_path) / "saved_model.pb").exists()
    assert "verifying on sequences that the model generates" in caplog.text
    assert "the data is gone" in caplog.text
    (split,) = splits
    assert split.num_sequences == verify.ROWS and (split.lengths == 30).all()
    assert split.values.shape == (verify.ROWS * 30, 3) and np.isfinite(split.values).all()
