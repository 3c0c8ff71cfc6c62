"""What a learning curve says, in words: for the terminal and for its page."""

from __future__ import annotations

import time

from afina import __version__
from afina.compare.curve import FEWEST_HELD_OUT, MORE, NEXT_TO_NOTHING, KindCurve, LearningCurve, Worth
from afina.core.translation import _, catalogue, language
from afina.core.units import Displayed, format_count, format_share
from afina.measure.intervals import Interval
from afina.measure.metrics import metric_of
from afina.report.curve_page import CurvePage, Drawn, Point, Table

_WORDS = 3  # of a kind of question


def verdict_words(curve: LearningCurve) -> str:
    """What the next examples are worth, in a sentence, and which kinds of question are short of them."""
    text = worth_words(curve.worth)
    if curve.short:
        names = "; ".join(kind_name(kind) for kind in curve.short)
        text += " " + _("Short of examples: {kinds}.").format(kinds=names)
    return text


def worth_words(worth: Worth) -> str:
    """``The next 100 examples would take 0.12 (0.05 to 0.21) off the held-out loss …``."""
    if worth.gain is None:
        return {
            "sizes": _("The data cannot tell what more examples are worth: too few sizes were measured."),
            "held-out": _("The data cannot tell what more examples are worth: fewer than {few} held-out examples."),
        }[worth.why].format(few=FEWEST_HELD_OUT)
    text = {
        "helps": _("More examples help: the next {more} would take {gain} off the held-out loss of {loss:.3f}."),
        "little": _(
            "More examples of the same kind bring next to nothing: the next {more} would take {gain} off the held-out loss of "
            "{loss:.3f}, at most {share}."
        ),
        "harms": _(
            "More examples of the same kind made it worse: the next {more} would take {gain} off the loss of {loss:.3f}; "
            "below zero is a rise."
        ),
        "unknown": _(
            "The data cannot tell what more examples are worth: the next {more} would take {gain} off the held-out loss of "
            "{loss:.3f}. More seeds (pilot.seeds) or more held-out examples narrow that."
        ),
    }[worth.answer]
    return text.format(more=MORE, gain=gain_words(worth.gain), loss=Displayed(worth.loss), share=format_share(NEXT_TO_NOTHING))


def gain_words(gain: Interval) -> str:
    """``0.123 (0.050 to 0.210)``."""
    value, low, high = map(Displayed, (gain.value, gain.low, gain.high))
    return _("{value:.3f} ({low:.3f} to {high:.3f})").format(value=value, low=low, high=high).replace("-", "−")


def kind_name(kind: KindCurve) -> str:
    return ", ".join(kind.words[:_WORDS]) or _("(no typical words)")


def size_table(curve: LearningCurve) -> Table:
    """A row for the base and one for each part of the examples."""
    title = metric_of(curve.metric).title
    rows = [(_("none (the base)"), "0", f"{Displayed(curve.base_loss):.3f}", "–", format_share(curve.base_score))]
    rows += [
        (
            format_share(size.share),
            format_count(size.examples),
            f"{Displayed(size.loss.value):.3f}",
            f"{Displayed(size.loss.low):.3f}–{Displayed(size.loss.high):.3f}",
            format_share(size.score),
        )
        for size in curve.sizes
    ]
    return Table((_("part"), _("examples"), _("held-out loss"), _("95 % interval"), title), tuple(rows))


def kind_table(curve: LearningCurve) -> Table | None:
    """A row for each kind of question; None where there is one kind only."""
    if not curve.kinds:
        return None
    heads = (
        _("questions with"),
        _("examples"),
        _("held out"),
        _("held-out loss"),
        _("the next {more} take off").format(more=MORE),
        _("verdict"),
    )
    return Table(heads, tuple(_kind_row(kind) for kind in curve.kinds))


def _kind_row(kind: KindCurve) -> tuple[str, ...]:
    gain = kind.worth.gain
    return (
        kind_name(kind),
        format_count(kind.examples),
        format_count(kind.held_out),
        "–" if gain is None else f"{Displayed(kind.worth.loss):.3f}",
        "–" if gain is None else gain_words(gain),
        _answer_words(kind.worth),
    )


def _answer_words(worth: Worth) -> str:
    if worth.why in ("held-out", "kinds", "seed"):
        return {
            "held-out": _("too few held out"),
            "kinds": _("may be chance, among so many kinds"),
            "seed": _("cannot be told with one seed"),
        }[worth.why]
    return {
        "helps": _("short of examples"),
        "little": _("has enough"),
        "harms": _("more made it worse"),
        "unknown": _("cannot be told"),
    }[worth.answer]


def page_of(curve: LearningCurve, name: str, short: str = "") -> CurvePage:
    """What the page says; ``short``: that the trainings were too short to read all examples, where they were."""
    band = curve.band
    return CurvePage(
        language=language() if catalogue(language()) else "en",
        name=name,
        headline=" ".join(filter(None, (verdict_words(curve), short and f"{short[0].upper()}{short[1:]}."))),
        facts=(
            (_("small trainings"), str(len(curve.sizes) * curve.seeds)),
            (_("steps each"), format_count(curve.steps)),
            (_("held-out examples"), format_count(curve.held_out)),
            (_("answered"), format_count(curve.questions)),
        ),
        chart=Drawn(
            tuple(Point(one.examples, one.loss.value, one.loss.low, one.loss.high, one.losses) for one in curve.sizes),
            *((band.sizes, band.middle, band.low, band.high) if band else ((), (), (), ())),
        ),
        sizes=size_table(curve),
        kinds=kind_table(curve),
        no_kinds=_("The questions are all of one kind, or too few to tell kinds apart."),
        next_steps=_next_steps(curve, name),
        notes=_notes(curve),
        written=_("afina {version}; measured {when} (UTC)").format(
            version=__version__, when=time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        ),
    )


def _notes(curve: LearningCurve) -> tuple[str, ...]:
    a, b, c = curve.law
    law = _("The law is loss = {a:.3g} · n^−{b:.2f} + {c:.3g}, fitted by least squares.").format(
        a=Displayed(a), b=Displayed(b), c=Displayed(c)
    )
    if curve.worth.answer in ("little", "unknown"):
        law = _("The law is loss = a · n^−b + c, fitted by least squares; the data do not tell its numbers.")
    seeds = (
        _("{count} seeds").format(count=curve.seeds) if curve.seeds > 1 else _("one seed, so that chance in training is not seen")
    )
    return (
        _(
            "Small trainings of {steps} steps on nested parts of the training examples, each with {seeds}; of each the best "
            "adapter by the validation loss. They are shorter than the training itself: what counts is how the loss falls, not "
            "where it is."
        ).format(steps=curve.steps, seeds=seeds),
        law
        + " "
        + _(
            "Its intervals come from drawing the held-out examples and the seeds anew. It is read {more} examples beyond the "
            "last point; how far it holds beyond that, nobody knows."
        ).format(more=MORE),
        _(
            "By kind of question, the number of examples is that of the kind; what the other kinds teach it is not told apart. "
            "“Short of examples” is said where the interval of the gain lies above zero and reaches one hundredth of the loss."
        ),
        _(
            "Among many kinds some seem short of examples by chance. So the slope of a kind's losses must also be too steep for "
            "chance (Student's t) after Holm's correction over all kinds: in 95 of 100 runs at least, nothing wrong is said of "
            "any of them. The intervals in the table are those of each kind by itself."
        ),
    )


def _next_steps(curve: LearningCurve, name: str) -> tuple[tuple[str, str], ...]:
    steps = []
    if curve.short:
        names = "; ".join(kind_name(kind) for kind in curve.short)
        steps.append((_("write examples of"), names))
    elif curve.worth.answer == "helps":
        steps.append((_("write examples"), _("of all kinds, then ask again")))
    steps.append((_("train with what there is"), f"afina run {name}"))
    return tuple(steps)
