"""What data an experiment is about, and how it is cut; a section of `config.ExperimentConfig`."""

import dataclasses
from typing import Literal

from zforcing_tf.settings import Section, setting

LONGEST = 2**31 - 1
"""Steps are counted in 32 bits."""


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Which data, and how a record becomes a sequence of frames."""

    dataset: str = setting("digits", "Name of the dataset.")
    data_dir: str = setting(
        "", "Where TFDS keeps its datasets; empty: its own default.", resumable=True
    )
    manual_dir: str = setting(
        "", "File or folder of data that you bring, such as your recordings.", resumable=True
    )
    feature: str = setting(
        "", "Which feature of a dataset, or array of a file, holds the sequences; empty: x."
    )
    rows_per_step: int = setting(2, "Rows of an image in one step; 0: one pixel a step.", minimum=0)
    max_length: int = setting(
        10000, "Longest sequence accepted, in steps.", minimum=1, maximum=LONGEST, resumable=True
    )
    frame_size: int = setting(200, "Samples of sound in one step.", minimum=1)
    sample_rate: int = setting(
        16000,
        "Samples of sound a second; recordings of other rates are resampled. 0: as they are.",
        minimum=0,
        maximum=1_000_000,
    )
    sound_scale: Literal["standardised", "linear", "mu_law"] = setting(
        "standardised",
        "What a model sees of sound: mean 0 and deviation 1 over the training split; or within "
        "[-1, 1], as discretised emissions take it, as it is or companded by the mu-law.",
    )
    tokens: Literal["word", "character"] = setting("word", "What a step of text is.")
    vocabulary_size: int = setting(
        16000, "Tokens that are told apart, </s> and <unk> among them.", minimum=3
    )
    min_tokens: int = setting(1, "Shortest text that is taken, in tokens.", minimum=1)
    max_tokens: int = setting(
        0, "Longest text that is taken, in tokens; 0: of any length.", minimum=0
    )
    lower_case: bool = setting(True, "Whether text is turned into lower case.")
    steps_per_beat: float = setting(2.0, "Steps of music in a beat of a MIDI file.", above=0)
    train_sequences: int = setting(
        0, "Trains on so many sequences, the first of the training data; 0: on all.", minimum=0
    )
    chunk_length: int = setting(
        0,
        "Steps of the pieces into which training cuts its sequences; 0: whole sequences.",
        minimum=0,
        maximum=LONGEST,
    )
    chunk_evaluation: bool = setting(
        False, "Whether validation and test are cut likewise, each piece by itself."
    )
    carry_state: bool = setting(
        False,
        "Whether training goes into a piece with the state after the one before, rather than with "
        "an empty one (truncated back-propagation).",
    )
    forget_probability: float = setting(
        0.0,
        "Chance that a piece goes in with an empty state all the same, so that a model that is "
        "trained on few long sequences also learns how one begins; such as 0.1.",
        minimum=0,
        below=1,
    )
    score_first_frame: bool = setting(
        True, "Whether the first frame is scored like the others, or only given to the model."
    )
    skip_bad_records: bool = setting(
        False, "Whether records that cannot be used are left out and counted, not refused."
    )
