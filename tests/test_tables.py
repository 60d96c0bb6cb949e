"""The three forms of a table."""

import csv
import io

from zforcing_tf import scoring, tables
from zforcing_tf.tables import Column

COLUMNS = [
    Column("run", "run", ["a|b", "long_name"]),
    Column("elbo", "elbo", [-21.25, -9.125], mark_best=True),
    Column("parameters", "size", [101_968, None]),
]


def test_text_is_aligned_and_the_highest_is_marked() -> None:
    assert tables.as_text(COLUMNS).splitlines() == [
        "run           elbo      size",
        "a|b        -21.250   101,968",
        "long_name   -9.125*        -",
    ]


def test_markdown_is_bold_and_keeps_its_bars() -> None:
    assert tables.as_markdown(COLUMNS).splitlines() == [
        "| run | elbo | size |",
        "| --- | ---: | ---: |",
        "| a\\|b | -21.250 | 101,968 |",
        "| long_name | **-9.125** | - |",
    ]


def test_csv_has_all_digits() -> None:
    columns = [Column("run", "run", ["a,b", "c"]), Column("x", "x", [1 / 3, None], mark_best=True)]
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(columns))))
    assert [row["run"] for row in rows] == ["a,b", "c"]
    assert float(rows[0]["x"]) == 1 / 3
    assert rows[1]["x"] == ""


def test_equal_values_are_all_best_and_one_value_is_not() -> None:
    assert Column("x", "x", [2.0, 1.0, 2.0, None], mark_best=True).cells("{}*", "{}") == [
        "2.000*",
        "1.000",
        "2.000*",
        "-",
    ]
    assert Column("x", "x", [2.0, None], mark_best=True).cells("{}*", "{}") == ["2.000", "-"]
    assert Column("x", "x", [2.0, 1.0]).cells("{}*", "{}") == ["2.000", "1.000"]


def test_columns_without_a_value_are_left_out() -> None:
    empty = Column("y", "y", [None, None])
    assert tables.filled([*COLUMNS, empty]) == COLUMNS


def test_the_table_of_an_evaluation() -> None:
    """As the README shows it."""
    rnn = {"elbo": -19.309, "elbo_standard_error": 0.367, "nats_per_step": -4.827}
    zforcing = {"elbo": -18.145, "elbo_standard_error": 0.407, "nats_per_step": -4.536}
    rnn |= {"bits_per_dim": 0.435, "kl_per_step": 0.0, "parameters": 101_968, "seconds": 25.4}
    zforcing |= {"bits_per_dim": 0.409, "kl_per_step": 0.794, "active_units": 28}
    zforcing |= {"parameters": 289_504, "seconds": 76.9, "step": 2430}
    rows = [("runs/digits_rnn", rnn), ("runs/digits_zforcing_aux", zforcing)]
    shown = """
                          nats/sequence     +-  nats/step  bits/dim  KL/step  active units  parameters  seconds
runs/digits_rnn                 -19.309  0.367     -4.827     0.435    0.000             -     101,968   25.400
runs/digits_zforcing_aux        -18.145  0.407     -4.536     0.409    0.794            28     289,504   76.900
"""  # noqa: E501
    assert scoring.table(rows) == shown.strip("\n")
