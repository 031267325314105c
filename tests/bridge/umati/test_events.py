from __future__ import annotations

from bridge import wire
from bridge.umati.events import messages
from tests.bridge.events import Story, printing


def told(story: Story) -> list[tuple[str, int, bool]]:
    return [(m.name, m.severity, m.alert) for t in story.transitions for m in messages(t)]


def test_a_print_with_a_pause_is_told_as_notifications() -> None:
    story = printing()
    story.states("paused", "printing")
    story.tell(wire.JOB_ENDED)
    assert told(story) == [
        ("JobStarted", 100, False),
        ("JobPaused", 300, False),
        ("JobResumed", 100, False),
        ("JobCompleted", 100, False),
    ]


def test_errors_and_failures_are_alerts_and_a_cancelled_print_is_none() -> None:
    story = printing()
    story.tell(wire.ERROR)
    story.tell(wire.JOB_ENDED, result="failed", reason="thermal runaway")
    assert told(story)[1:] == [("PrinterError", 900, True), ("JobFailed", 900, True)]
    cancelled = printing()
    cancelled.tell(wire.JOB_ENDED, result="cancelled")
    assert told(cancelled)[1:] == [("JobCancelled", 300, False)]


def test_a_lost_printer_is_an_alert_only_while_it_prints() -> None:
    idle = Story()
    idle.link("up")
    idle.link("lost")
    assert told(idle) == []
    story = printing()
    story.link("lost")
    assert told(story)[1:] == [("ConnectionLost", 500, True)]


def test_the_text_names_the_file_and_the_reason() -> None:
    story = printing()
    transition = story.tell(wire.JOB_ENDED, result="failed", reason="thermal runaway")
    (message,) = messages(transition)
    assert message.text == "Print of benchy.gcode failed: thermal runaway"
