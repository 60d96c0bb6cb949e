"""What training reads: the batches of each epoch, as the settings of an experiment ask for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from zforcing_tf.config import DataConfig, RunConfig
from zforcing_tf.data import pipeline
from zforcing_tf.data.pipeline import FramesAt, Gather
from zforcing_tf.data.spec import Split
from zforcing_tf.data.streams import Pieces, pieces


class Feed:
    """Batches of the training split, an epoch at a time and from any batch on.

    Args:
      split: training sequences.
      data: settings; `chunk_length` cuts sequences, `carry_state` lays them end to end.
      run: settings: batch size, seed, bucketing.
      shares: of which (part, parts) of each batch to give, one after the other.
    """

    def __init__(
        self,
        split: Split,
        data: DataConfig,
        run: RunConfig,
        shares: Sequence[tuple[int, int]] = ((0, 1),),
    ) -> None:
        cut = data.chunk_length and not data.carry_state
        self.split = split.cut(data.chunk_length) if cut else split
        self._data = data
        self._run = run
        self.shares = shares
        self.num_lengths: int | None = None
        """T takes at most as many values; None: as many as there are."""
        self._gathered: Callable[[int | None], Gather] = functools.lru_cache(maxsize=1)(
            functools.partial(pipeline.gather, self.split)
        )
        self._pieces = functools.lru_cache(maxsize=2)(self._pieces_of)

    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch, counted from 0."""
        if self._data.carry_state:
            return len(self._pieces(epoch).first)
        return pipeline.batches_per_epoch(self.split, self._run.batch_size)

    @property
    def repeats(self) -> bool:
        """Whether `batches` of a variable epoch serve all epochs."""
        return not self._data.carry_state

    def batches(self, epoch: int | tf.Variable, first_batch: int = 0) -> tf.data.Dataset:
        """One epoch from a batch on; `epoch` may be a variable where `repeats` says so."""
        run = self._run
        if self._data.carry_state:
            length = None if self.num_lengths is None else self._data.chunk_length
            planned = self._pieces(int(epoch))
            return pipeline.stream_batches(
                self.split, planned, first_batch, length, self._frames_at
            )
        parts = [
            pipeline.training_batches(
                self.split,
                run.batch_size,
                run.seed,
                epoch,
                first_batch,
                self._gathered(self.num_lengths),
                run.bucket_batches,
                share,
            )
            for share in self.shares
        ]
        return pipeline.alternating(parts)

    @functools.cached_property
    def fixed_length(self) -> bool:
        """Whether all batches can have one length."""
        return self._data.carry_state or pipeline.nearly_equal(self.split)

    @functools.cached_property
    def _frames_at(self) -> FramesAt:
        return pipeline.frames_at(self.split)

    def _pieces_of(self, epoch: int) -> Pieces:
        data, run = self._data, self._run
        return pieces(
            self.split,
            run.batch_size,
            data.chunk_length,
            run.seed,
            epoch,
            not data.score_first_frame,
            data.forget_probability,
        )
