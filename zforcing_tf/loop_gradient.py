"""The gradient of the time loop by hand: large products after the loop, not small ones in it.

Differentiated automatically, a loop adds up the gradient of each kernel step by step: T thin
products, and T additions over whole matrices. Here the forward loop keeps states and what its
operations ask it to keep; the backward loop computes none of these again, and yields for each
product what it was applied to and the gradient of what it gave. The gradient of a kernel is then
one product over [T B, .].

It holds for every step that meets its weights through `Product`s, each called once, and captures no
other tensor. What stands between the operations is differentiated as it is. A tensor that a step
has under several names (the gradient of all that is added into the gates, say) is kept once; a
trace of one step tells which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from zforcing_tf.products import Operation, Pointwise, Product
from zforcing_tf.unroll import Step, Structure, loop

Tensors = list[tf.Tensor]
Operations = list[Operation]


def unroll_with_gradient(
    step: Step,
    weights: Structure,
    state: Structure,
    inputs: Structure,
    output_dtypes: Structure,
    *,
    reverse: bool = False,
) -> tuple[Structure, Structure]:
    """As `unroll.unroll`, with equal results and equal gradients. Has no second derivative."""
    operations = [w for w in _flat(weights) if isinstance(w, Operation)]
    tensors = [tensor for operation in operations for tensor in operation.tensors]
    flat_state, flat_inputs = _flat(state), _flat(inputs)
    steps = _Steps(step, weights, state, inputs)
    forward_places, backward_places = steps.places(operations)
    dtype = flat_state[0].dtype

    @tf.custom_gradient
    def run(*arguments: tf.Tensor) -> Any:
        left = iter(arguments)
        own = _with_tensors(operations, left)
        first_state, all_inputs = [next(left) for _ in flat_state], list(left)

        def forward(now: Tensors, given: Tensors) -> tuple[Tensors, Any]:
            found = steps.forward(own, now, given)
            return found.after, (forward_places.own(found.outputs), now, found.kept)

        dtypes = (
            forward_places.own(_flat(output_dtypes)),
            [x.dtype for x in flat_state],
            [[dtype] * op.num_kept for op in own],
        )
        last_state, (stacked, states, kept) = loop(
            forward, first_state, all_inputs, dtypes, reverse
        )

        def after(i: int) -> tf.Tensor:
            last = last_state[i][tf.newaxis]
            pieces = [last, states[i][:-1]] if reverse else [states[i][1:], last]
            return tf.concat(pieces, axis=0)

        outputs = forward_places.all(stacked, {"before": states.__getitem__, "after": after})

        def gradient(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
            def backward(d_state: Tensors, now: Any) -> tuple[Tensors, Any]:
                found = steps.backward(own, d_state, *now)
                return found.d_state, backward_places.own(found.left)

            given = (states, all_inputs, kept, list(upstream[len(flat_state) :]))
            d_state = list(upstream[: len(flat_state)])
            d_state, stacked = loop(
                backward, d_state, given, [dtype] * backward_places.num_own, not reverse
            )
            known = {"before": states, "input": all_inputs, "output": outputs}
            left = backward_places.all(stacked, {k: v.__getitem__ for k, v in known.items()})
            d_inputs, d_results, applied = steps.split_left(own, left)
            d_tensors = [
                d
                for product, x, d_result in zip(_products(own), applied, d_results, strict=True)
                for d in product.gradients(x, d_result)
            ]
            return [*d_tensors, *d_state, *d_inputs]

        return [*last_state, *outputs], gradient

    results = run(*tensors, *flat_state, *flat_inputs)
    last_state, outputs = results[: len(flat_state)], results[len(flat_state) :]
    return (
        tf.nest.pack_sequence_as(state, last_state),
        tf.nest.pack_sequence_as(output_dtypes, outputs),
    )


class _Forward(NamedTuple):
    after: Tensors
    outputs: Tensors
    kept: list[Tensors]
    """Of each operation."""
    applied: Tensors
    """What each product was applied to."""


class _Backward(NamedTuple):
    d_state: Tensors
    left: Tensors
    """For after the loop: gradients of inputs and of results of products, then what these were
    applied to."""


class _Places(NamedTuple):
    """Where tensors are found that a step has under several names."""

    places: list[tuple[str, int]]
    """Of each tensor: ("own", i), the i-th that has to be kept, or another name and number."""

    @classmethod
    def of(cls, tensors: Iterable[Any], known: dict[str, Sequence[Any]]) -> _Places:
        """Places by identity, later names first."""
        found = {id(x): (name, i) for name, group in known.items() for i, x in enumerate(group)}
        count, places = 0, []
        for x in tensors:
            if id(x) not in found:
                found[id(x)] = ("own", count)
                count += 1
            places.append(found[id(x)])
        return cls(places)

    @property
    def num_own(self) -> int:
        return len({place for place in self.places if place[0] == "own"})

    def own(self, values: Sequence[Any]) -> list[Any]:
        """Of one value for each tensor, those that have to be kept."""
        chosen = dict(zip(reversed(self.places), reversed(values), strict=True))
        return [chosen["own", i] for i in range(self.num_own)]

    def all(self, own: Sequence[Any], known: dict[str, Callable[[int], Any]]) -> list[Any]:
        """One value for each tensor, from those that were kept and those known otherwise."""
        known = {**known, "own": own.__getitem__}
        return [known[name](i) for name, i in self.places]


class _Steps(NamedTuple):
    """The step on flat lists of tensors, forward and backward."""

    step: Step
    weights: Structure
    state: Structure
    inputs: Structure

    def forward(self, operations: Operations, now: Tensors, given: Tensors) -> _Forward:
        kept: list[Tensors] = [[] for _ in operations]
        applied: dict[int, tf.Tensor] = {}

        def recorder(i: int, operation: Operation) -> Callable[..., Any]:
            def record(*inputs: tf.Tensor) -> Any:
                applied[i] = inputs[0]
                result, keep = operation.record(*inputs)
                kept[i] = list(keep)
                return result

            return record

        recorders = [recorder(i, operation) for i, operation in enumerate(operations)]
        after, outputs = self._run(recorders, now, given)
        seen = [applied[i] for i, op in enumerate(operations) if isinstance(op, Product)]
        return _Forward(_flat(after), _flat(outputs), kept, seen)

    def backward(
        self,
        operations: Operations,
        d_state: Tensors,
        state: Tensors,
        inputs: Tensors,
        kept: list[Tensors],
        d_outputs: Tensors,
    ) -> _Backward:
        varied = [x for x in inputs if x.dtype.is_floating]
        results = [
            op.results(k, state[0]) if isinstance(op, Product) else []
            for op, k in zip(operations, kept, strict=True)
        ]
        applied: dict[int, tf.Tensor] = {}

        def replayer(i: int, operation: Operation) -> Callable[..., Any]:
            def replay(*given: tf.Tensor) -> Any:
                if isinstance(operation, Product):
                    applied[i] = given[0]
                    return operation.replay(given[0], results[i])
                assert isinstance(operation, Pointwise)
                return operation.replay(given, kept[i])

            return replay

        with tf.GradientTape() as tape:
            tape.watch([state, varied, results])
            replays = [replayer(i, operation) for i, operation in enumerate(operations)]
            after, outputs = self._run(replays, state, inputs)
        d_before, d_varied, d_results = tape.gradient(
            _flat(after) + _flat(outputs),
            [state, varied, results],
            output_gradients=list(d_state) + list(d_outputs),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        seen = [applied[i] for i, op in enumerate(operations) if isinstance(op, Product)]
        return _Backward(d_before, [*d_varied, *_flat(d_results), *seen])

    def split_left(self, operations: Operations, left: Tensors) -> tuple[Any, Any, Any]:
        """`_Backward.left` as gradients of inputs, of products' results, and what these met."""
        rest = iter(left)
        differentiable = [x.dtype.is_floating for x in _flat(self.inputs)]
        d_inputs = [next(rest) if one else None for one in differentiable]
        d_results = [[next(rest) for _ in op.kernels] for op in _products(operations)]
        return d_inputs, d_results, list(rest)

    def places(self, operations: Operations) -> tuple[_Places, _Places]:
        """Traces both ways to see what is the same: of outputs, and of `_Backward.left`."""
        with tf.Graph().as_default():

            def stand_in(x: tf.Tensor, first: int = 0) -> tf.Tensor:
                return tf.compat.v1.placeholder(x.dtype, x.shape[first:])

            tensors = (stand_in(t) for op in operations for t in op.tensors)
            own = _with_tensors(operations, tensors)
            state = [stand_in(x) for x in _flat(self.state)]
            inputs = [stand_in(x, 1) for x in _flat(self.inputs)]
            found = self.forward(own, state, inputs)
            outputs = _Places.of(found.outputs, {"after": found.after, "before": state})
            kept = [[stand_in(x) for x in group] for group in found.kept]
            d_state, d_outputs = ([stand_in(x) for x in v] for v in (found.after, found.outputs))
            left = self.backward(own, d_state, state, inputs, kept, d_outputs).left
            # What a product is applied to is known from the forward trace too, by another name.
            count = len(left) - len(found.applied)
            names = {id(x): ("output", i) for i, x in enumerate(found.outputs)}
            later = _Places.of(left, {"input": inputs, "before": state}).places
            places = [
                names.get(id(x), place) if place[0] == "own" else place
                for x, place in zip([None] * count + found.applied, later, strict=True)
            ]
            return outputs, _Places(_renumbered(places))

    def _run(self, by: Sequence[Any], state: Tensors, inputs: Tensors) -> tuple[Any, Any]:
        left = iter(by)
        weights = tf.nest.map_structure(
            lambda w: next(left) if isinstance(w, Operation) else w, self.weights
        )
        return self.step(
            weights,
            tf.nest.pack_sequence_as(self.state, list(state)),
            tf.nest.pack_sequence_as(self.inputs, list(inputs)),
        )


def _renumbered(places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Own places counted without gaps."""
    own = sorted({i for name, i in places if name == "own"})
    return [(name, own.index(i)) if name == "own" else (name, i) for name, i in places]


def _flat(structure: Structure) -> list[Any]:
    return list(tf.nest.flatten(structure))


def _products(operations: Operations) -> list[Product]:
    return [op for op in operations if isinstance(op, Product)]


def _with_tensors(operations: Operations, tensors: Any) -> Operations:
    """The operations with other weights, taken from an iterator."""
    return [
        op.with_tensors([next(tensors) for _ in op.tensors]) if isinstance(op, Product) else op
        for op in operations
    ]
