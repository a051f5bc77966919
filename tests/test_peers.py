"""Both sides of docs/coming_from.md, calls of other libraries and of anyops, give the same results."""

from pathlib import Path

import numpy as np
import pytest

from tests import peers

ROOT = Path(__file__).parents[1]
PAIRS = [pytest.param(peer, pair, id=f"{peer.title}-{pair.theirs}") for peer in peers.PEERS for pair in peer.pairs]
RECORD = peers.recorded()


def compare(got, want, atol):
    """Compare numbers, lists, or lists of results."""
    if isinstance(want, list) and want and isinstance(want[0], list) and len({np.shape(part) for part in want}) > 1:
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(("peer", "pair"), PAIRS)
def test_ours_gives_what_was_recorded(peer, pair):
    compare(peers.answer(pair.ours, peer.arrays()), RECORD[peer.title]["answers"][pair.theirs], pair.atol)


@pytest.mark.parametrize(("peer", "pair"), [p for p in PAIRS if p.values[0].published is None])
def test_both_give_the_same_now(peer, pair):
    if why := peers.why_not(peer):
        pytest.skip(why)
    theirs = peers.ask(peer, pair)
    compare(peers.answer(pair.ours, peers.arrays_of(peer)), theirs, pair.atol)
    compare(theirs, RECORD[peer.title]["answers"][pair.theirs], pair.atol)


def test_no_answer_is_trivial():
    for peer in peers.PEERS:
        assert set(RECORD[peer.title]["answers"]) == {pair.theirs for pair in peer.pairs}
        assert all(np.any(np.asarray(flat(a)) != 0) for a in RECORD[peer.title]["answers"].values())


def flat(answer):
    return [number for part in answer for number in flat(part)] if isinstance(answer, list) else [answer]


def test_page_is_up_to_date():
    assert (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8") == peers.render(), (
        "run `python -m tests.peers > docs/coming_from.md`"
    )
