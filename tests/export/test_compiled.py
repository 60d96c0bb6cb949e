"""SavedModels whose signatures XLA compiles, and each signature of each model and emission."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from export import verify
from tests import model_factory
from tests.export.served import LENGTHS, Served, distance, request, served
from tests.slowly import slow_unless
from zforcing_tf.distributions import FAMILIES

MODELS = [("bernoulli", "full", "float32"), ("categorical", "vrnn", "float32")]
INTERPRETED = {"initial_state", "step"}
"""One step alone takes longer to hand to XLA than to compute."""


def check_answers(one: Served, tolerance: float) -> None:
    """All signatures, in a batch, in the same again, alone, and whatever padding holds."""
    inputs, seen, flips = request(one), set(), 0
    for case in verify.cases(one.model, inputs["x"], LENGTHS):
        found = distance(case, one.ask(case.signature, **case.inputs))
        seen.add(case.signature)
        if found > tolerance and case.may_flip:
            flips += 1
        else:
            assert found <= tolerance, case
    assert flips <= verify.FLIPS
    assert seen == set(one.signatures) - {"serving_default"}


def compiled_functions(one: Served) -> set[str]:
    """Signatures in whose graph something must be compiled."""
    data = saved_model_pb2.SavedModel.FromString((one.path / "saved_model.pb").read_bytes())
    library = {f.signature.name: f for f in data.meta_graphs[0].graph_def.library.function}

    def compiles(name: str) -> bool:
        function = library[name]
        if function.attr["_XlaMustCompile"].b:
            return True
        called = [value.func.name for node in function.node_def for value in node.attr.values()]
        return any(compiles(name) for name in called if name)

    nodes = {node.name: node for node in data.meta_graphs[0].graph_def.node}
    found = set()
    for name, signature in data.meta_graphs[0].signature_def.items():
        if name.startswith("__"):
            continue
        node = nodes[next(iter(signature.outputs.values())).name.partition(":")[0]]
        if compiles(node.attr["f"].func.name):
            found.add(name)
    return found


@pytest.mark.parametrize(
    "model", [slow_unless(model == MODELS[0], model, id=":".join(model)) for model in MODELS]
)
def test_answers_are_those_of_the_model_that_is_not_compiled(model: tuple[str, str, str]) -> None:
    one = served(*model, compiled=True)
    check_answers(one, 1e-5)
    assert compiled_functions(one) == set(one.signatures) - INTERPRETED
    assert not one.model.answers_compiled  # when all is written


def test_nothing_is_compiled_unasked() -> None:
    assert compiled_functions(served()) == set()


def test_a_wrong_request_is_refused_as_ever() -> None:
    one = served(*MODELS[0], compiled=True)
    inputs = request(one)
    assert "lengths" in one.refusal(
        "score", **{**inputs, "lengths": np.array([6, 1, 1, 1], np.int32)}
    )
    np.testing.assert_array_equal(
        one.ask("score", **inputs)["elbo"], one.ask("score", **inputs)["elbo"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("variant", ["rnn", "storn", "vrnn", "srnn", "zforcing"])
@pytest.mark.parametrize("emission", sorted(model_factory.KINDS))
def test_each_signature_of_each_model_and_emission(
    emission: str, variant: str, compiled: bool
) -> None:
    assert set(model_factory.KINDS) == set(FAMILIES)
    # Of 2^16 levels within [-1, 1] two neighbours are 3e-5 apart, and rounding may choose either.
    tolerance = 7e-5 if emission == "discretised_logistic_mixture" else 2e-5
    check_answers(served(emission, variant, compiled=compiled), tolerance)
