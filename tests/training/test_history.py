"""Learning curves on disk."""

import pytest

from zforcing_tf.errors import UserError
from zforcing_tf.training.history import History


def test_history_drops_what_will_be_trained_again(tmp_path):
    history = History(tmp_path / "history.csv")
    for epoch in (1, 2, 3):
        history.append(epoch, 10 * epoch, {"elbo": -1.5}, {"elbo": -2.5})
    history.keep(2)
    assert [row["step"] for row in history.rows()] == [10.0, 20.0]
    assert history.rows()[0]["validation_elbo"] == -2.5
    history.keep(0)
    assert history.rows() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epoch,step,train_elbo\n1,10,-2.5\n2,20,much\n", "could not convert"),
        ("epoch,step\n1,10,-2.5\n", "argument must be"),
        ("epoch,train_elbo\n1,-2.5\n", "a row has no epoch or no step"),
        (b"\xff\xfe\x00", "codec can't decode"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, text, reason):
    path = tmp_path / "history.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"history.csv cannot be used .*{reason}.*; move it away"):
        History(path).rows()
