"""The E-model against the tables computed from its formulas (ITU-T G.107, G.113)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.wire import emodel
from probes.wire.emodel import G711_PLC, OPUS_FEC, Codec

OPUS_PLAIN = Codec(10.5, 10.0)
"""16 kbit/s without forward error correction."""

IDD = {100: 0, 150: 0.16, 200: 3.04, 250: 8.92, 300: 14.76, 400: 24.07, 500: 30.64, 800: 40.83}
MOS = {50: 2.575, 60: 3.100, 70: 3.597, 80: 4.024, 90: 4.339, 93.2: 4.409}
PERCENT = (0, 1, 3, 5, 10, 20)
BY_LOSS = {
    ("G.711", 0.050): "93.2/4.41 89.6/4.33 83.1/4.13 77.4/3.92 66.1/3.41 51.1/2.63",
    ("G.711", 0.300): "78.4/3.96 74.8/3.81 68.3/3.52 62.7/3.24 51.4/2.65 36.3/1.89",
    ("Opus", 0.050): "85.9/4.23 81.7/4.09 74.5/3.80 68.4/3.52 56.7/2.93 42.1/2.17",
    ("plain", 0.050): "82.7/4.12 75.0/3.82 63.2/3.26 54.5/2.81 40.5/2.09 26.4/1.47",
}
CODECS = {"G.711": G711_PLC, "Opus": OPUS_FEC, "plain": OPUS_PLAIN}


@pytest.mark.parametrize(("milliseconds", "impairment"), IDD.items())
def test_delay(milliseconds, impairment):
    assert emodel.delay_impairment(milliseconds / 1000) == pytest.approx(impairment, abs=0.006)


@pytest.mark.parametrize(("rating", "mos"), MOS.items())
def test_score(rating, mos):
    assert emodel.score(rating) == pytest.approx(mos, abs=0.0006)


@pytest.mark.parametrize(("case", "row"), BY_LOSS.items(), ids=str)
def test_loss(case, row):
    codec, delay = CODECS[case[0]], case[1]
    for percent, cell in zip(PERCENT, row.split(), strict=True):
        r, mos = map(float, cell.split("/"))
        assert emodel.rating(codec, delay, percent) == pytest.approx(r, abs=0.06)
        assert emodel.mos(codec, delay, percent) == pytest.approx(mos, abs=0.006)


@pytest.mark.parametrize(("runs", "rating"), [(1, 77.4), (2, 76.0), (4, 75.2), (0.2, 77.4)])
def test_bursts(runs, rating):
    """Fewer than chance makes is no better than chance: G.107 does not go below 1."""
    assert emodel.rating(G711_PLC, 0.05, 5, runs) == pytest.approx(rating, abs=0.06)


@pytest.mark.parametrize(("share", "each"), [(1, 0.50), (5, 2.53), (10, 5.13), (20, 10.56)])
def test_one_way(share, each):
    assert 100 * emodel.one_way(share / 100) == pytest.approx(each, abs=0.006)


def test_mouth_to_ear():
    assert emodel.mouth_to_ear(0.1, 0.02) == pytest.approx(0.05 + 0.02 + 0.06 + 0.01)
    assert emodel.mouth_to_ear(0.1, 0.06, OPUS_FEC) == pytest.approx(0.18 + 0.0065)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_better_rating_is_no_worse_a_score(one, other):
    low, high = sorted((one, other))
    assert 1 <= emodel.score(low) <= emodel.score(high) + 0.03 <= 4.53
