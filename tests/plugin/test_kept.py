"""What the bridge lost is sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import wire
from octoprint_mesbridge.outbox import Outbox

from .test_outbox import occurrence, seqs


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """Of five events the bridge has four."""
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.append(occurrence(wire.ERROR, number) for number in range(1, 6))
    outbox.acknowledge(outbox.name, 2)
    outbox.acknowledge(outbox.name, 4)
    return outbox


def test_a_bridge_that_lost_events_is_sent_them_again_and_then_the_rest(outbox: Outbox) -> None:
    assert outbox.rewind(outbox.name, 1)
    assert outbox.backlog().waiting == 4
    batch = outbox.next_batch()
    assert (batch.after, batch.through, seqs(batch)) == (1, 4, [2, 3, 4])
    outbox.acknowledge(outbox.name, 3)
    assert seqs(outbox.next_batch()) == [4]
    outbox.acknowledge(outbox.name, 4)
    assert seqs(outbox.next_batch()) == [5]
    assert outbox.backlog().waiting == 1


def test_what_is_sent_again_may_be_lost_again(outbox: Outbox) -> None:
    outbox.rewind(outbox.name, 1)
    outbox.acknowledge(outbox.name, 4)
    assert outbox.rewind(outbox.name, 0)
    assert seqs(outbox.next_batch()) == [1, 2, 3, 4]


def test_only_the_newest_are_kept_and_the_bridge_knows_from_which_on(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outbox.next_batch().kept_from == 1
    monkeypatch.setattr("octoprint_mesbridge.kept.MOST", 2)
    outbox.acknowledge(outbox.name, 5)
    assert outbox.next_batch().kept_from == 4
    assert outbox.rewind(outbox.name, 0)
    batch = outbox.next_batch()
    assert (batch.after, seqs(batch)) == (3, [4, 5])
    assert not batch.rewindable(0)


def test_nothing_is_sent_again_of_another_instance_or_when_nothing_is_missing(outbox: Outbox) -> None:
    assert not outbox.rewind("another", 1)
    assert not outbox.rewind(outbox.name, 4)
    assert seqs(outbox.next_batch()) == [5]
