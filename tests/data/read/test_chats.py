from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.conversation import Conversation, Finding, Source
from afina.data.read.chats import ChatKind, is_slack_export, read_chat, read_slack, recognise_chat
from afina.data.read.whatsapp import read_whatsapp

LRM = "\u200e"  # what an iPhone puts in front of what the program itself says
THIN = "\u202f"  # the blank in front of PM


def parts(found: Any) -> tuple[list[Conversation], list[Finding]]:
    items = list(found)
    return [item for item in items if isinstance(item, Conversation)], [item for item in items if isinstance(item, Finding)]


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def telegram(messages: Sequence[Mapping[str, Any]], **more: Any) -> str:
    return json.dumps(
        {"name": "Ana", "type": "personal_chat", "id": 5, "messages": messages, **more}, ensure_ascii=False, indent=1
    )


# ── WhatsApp ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FORMATS = {
    "Android, Spain": ["31/12/23, 21:15 - Ana: hola", "31/12/23, 21:16 - Luis: sí"],
    "Android, Spain, before 2020": ["31/12/23 21:15 - Ana: hola", "31/12/23 21:16 - Luis: sí"],
    "Android, Mexico": ["31/12/2023, 9:15 p.\u00a0m. - Ana: hola", "31/12/2023, 9:16 p.\u00a0m. - Luis: sí"],
    "Android, United States": [f"12/31/23, 9:15{THIN}PM - Ana: hola", f"12/31/23, 9:16{THIN}PM - Luis: sí"],
    "Android, Germany": ["31.12.23, 21:15 - Ana: hola", "31.12.23, 21:16 - Luis: sí"],
    "Android, Sweden": ["2023-12-31 21:15 - Ana: hola", "2023-12-31 21:16 - Luis: sí"],
    "iPhone, Spain": ["[31/12/23, 21:15:07] Ana: hola", f"{LRM}[31/12/23, 21:16:01] ~{THIN}Luis: sí"],
    "iPhone, United States": [f"[12/31/23, 9:15:07{THIN}PM] Ana: hola", f"[12/31/23, 9:16:01{THIN}PM] Luis: sí"],
}


@pytest.mark.parametrize("lines", FORMATS.values(), ids=FORMATS)
def test_messages_are_read_in_the_date_formats_of_the_telephones(lines: list[str]) -> None:
    text = "\r\n".join(lines) + "\r\n"
    assert recognise_chat("WhatsApp Chat with Ana.txt", text) == "whatsapp"
    said = [(line, f"{time:%Y-%m-%d %H:%M}", who, what) for line, time, who, what in read_whatsapp(text)]
    assert said == [(1, "2023-12-31 21:15", "Ana", "hola"), (2, "2023-12-31 21:16", "Luis", "sí")]


@pytest.mark.parametrize(
    ("dates", "months"),
    [
        (["01/02/24, 10:00", "13/02/24, 10:00"], [2, 2]),  # a day above 12 in the first place
        (["01/02/24, 10:00", "01/13/24, 10:00"], [1, 1]),  # in the second
        (["1/5/24, 10:00", "2/1/24, 10:00", "3/1/24, 10:00"], [1, 2, 3]),  # else time runs forward
        (["1/2/24, 9:00 AM", "3/4/24, 9:00 AM"], [1, 3]),  # else AM and PM are American
        (["1/2/24, 9:00", "3/4/24, 9:00"], [2, 4]),
    ],
)
def test_whether_the_day_or_the_month_stands_first_is_found_out(dates: list[str], months: list[int]) -> None:
    text = "\n".join(f"{date} - Ana: x" for date in dates)
    assert [time.month for _line, time, _who, _what in read_whatsapp(text)] == months


def test_a_message_goes_on_until_the_next_one_begins() -> None:
    text = "1/2/24, 9:00 - Ana: uno:\n\n- dos\n12/40 y más\n1/2/24, 9:01 - Luis: sí"
    assert [what for _line, _time, _who, what in read_whatsapp(text)] == ["uno:\n\n- dos\n12/40 y más", "sí"]
    assert [line for line, _time, _who, _what in read_whatsapp(text)] == [1, 5]


def test_a_line_whose_date_cannot_be_is_a_part_of_the_message_before() -> None:
    text = "31/12/23, 9:00 - Ana: uno\n99/99/23, 9:00 - dos: tres\n31/12/23, 9:01 - Luis: sí"
    assert [what for _line, _time, _who, what in read_whatsapp(text)] == ["uno\n99/99/23, 9:00 - dos: tres", "sí"]


@pytest.mark.parametrize(
    "line",
    [
        "1/2/24, 9:00 - Messages and calls are end-to-end encrypted. No one outside of this chat can read them.",
        "1/2/24, 9:00 - Los mensajes y las llamadas están cifrados de extremo a extremo.",
        "1/2/24, 9:00 - Ana añadió a Luis",
        f"[1/2/24, 9:00:00] La familia: {LRM}Los mensajes y las llamadas están cifrados de extremo a extremo.",
    ],
)
def test_what_whatsapp_itself_says_is_no_message(line: str) -> None:
    assert list(read_whatsapp(line)) == []


@pytest.mark.parametrize(
    "rest",
    [
        *("<Media omitted>", "<Multimedia omitido>", "image omitted", "imagen omitida", "video omitido", "Mídia oculta"),
        *("IMG-20240131-WA0001.jpg (file attached)", "PTT-1.opus (archivo adjunto)", "<attached: 0001-PHOTO-2024.jpg>"),
        *("This message was deleted", "Eliminaste este mensaje.", "Se eliminó este mensaje.", "null", "Missed voice call", ""),
    ],
)
def test_pictures_sounds_and_deleted_messages_have_no_text(rest: str) -> None:
    for line in (f"1/2/24, 9:00 - Ana: {rest}", f"{LRM}[1/2/24, 9:00:00] Ana: {LRM}{rest}"):
        assert [what for _line, _time, _who, what in read_whatsapp(line)] == [""]


def test_the_note_that_a_message_was_edited_is_taken_off() -> None:
    for note in ("<This message was edited>", f"{LRM}<Se editó este mensaje.>"):
        assert [what for *_place, what in read_whatsapp(f"1/2/24, 9:00 - Ana: hola {note}")] == ["hola"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "Dear diary,\n1/2/24, 9:00 - Ana: x"),
        ("a.txt", "1/2/24: bought milk\n2/2/24: bought bread"),
        ("a.txt", ""),
        ("a.json", '{"messages": [{"role": "user", "content": "a"}]}'),
        ("a.json", '[{"type": "message", "ts": "1"}]'),
        ("2024-01-31.json", '[{"question": "a"}]'),
    ],
)
def test_other_files_are_no_chats(name: str, text: str) -> None:
    assert recognise_chat(name, text) is None


@given(st.text(alphabet=st.sampled_from("1/2,: -[]\n.9PMaÁ\u200e\u202f0"), max_size=80))
def test_any_text_is_gone_through(text: str) -> None:
    for line, _time, _who, _what in read_whatsapp(text):
        assert 1 <= line <= text.count("\n") + 1


# ── from messages to conversations ────────────────────────────────────────────────────────────────────────────────────

LONG_CHAT = """\
31/12/23, 08:00 - Luis: ¿Hola?
31/12/23, 08:01 - Ana: ¡Hola!
31/12/23, 08:02 - Ana: ¿Qué tal?
31/12/23, 08:03 - Luis: Bien.
31/12/23, 08:04 - Luis: ¿Y tú?
31/12/23, 08:05 - Ana: ¿Sigues ahí?
31/12/23, 11:05 - Ana: ¿Vienes?
31/12/23, 11:06 - Ana: <Multimedia omitido>
31/12/23, 14:04 - Luis: Sí.
31/12/23, 18:00 - Ana: Adiós.
31/12/23, 23:00 - Luis: Adiós.
"""


def test_a_chat_is_cut_at_silences_and_begins_with_the_others() -> None:
    conversations, findings = parts(read_chat("whatsapp", "x/Chat de Ana.txt", LONG_CHAT, "luis", None))
    assert [turns(conversation) for conversation in conversations] == [
        [("user", "¡Hola!\n¿Qué tal?"), ("assistant", "Bien.\n¿Y tú?")],
        [("user", "¿Vienes?"), ("assistant", "Sí.")],
    ]
    assert [conversation.source.line for conversation in conversations] == [2, 7]
    assert [conversation.group for conversation in conversations] == [
        "Chat de Ana 2023-12-31 08:01",
        "Chat de Ana 2023-12-31 11:05",
    ]
    file = "x/Chat de Ana.txt"
    assert findings == [
        Finding(Source(file, 8), "not-text", "messages without text (pictures, sounds, files) are left out: 1", "changed"),
        Finding(Source(file, 10), "no-answer", "sessions in which only one side speaks are left out: 2", "changed"),
        Finding(
            Source(file, 1),
            "role-order",
            "messages before the first question or behind the last answer of a session are left out: 2",
            "changed",
        ),
    ]


def test_every_message_is_in_a_conversation_or_counted_as_left_out() -> None:
    conversations, findings = parts(read_chat("whatsapp", "c.txt", LONG_CHAT, "Luis", None))
    kept = sum(len(message.content.split("\n")) for conversation in conversations for message in conversation.messages)
    assert kept + sum(int(finding.reason.split()[-1]) for finding in findings) == LONG_CHAT.count("\n")


def test_in_a_group_the_others_are_named() -> None:
    text = "1/2/24, 9:00 - Ana: uno\n1/2/24, 9:01 - Eva: dos\ntres\n1/2/24, 9:02 - Luis: sí"
    (conversation,), _findings = parts(read_chat("whatsapp", "g.txt", text, "Luis", "Eres Luis."))
    assert turns(conversation) == [("system", "Eres Luis."), ("user", "Ana: uno\nEva: dos\ntres"), ("assistant", "sí")]


def test_who_only_sends_pictures_makes_no_group() -> None:
    text = "1/2/24, 9:00 - Ana: uno\n1/2/24, 9:01 - Eva: <Media omitted>\n1/2/24, 9:02 - Luis: sí"
    (conversation,), _findings = parts(read_chat("whatsapp", "g.txt", text, "Luis", None))
    assert turns(conversation)[0] == ("user", "uno")


def test_a_chat_without_a_person_lists_who_speaks_and_proposes_who_answers() -> None:
    with pytest.raises(DataError) as caught:
        read_chat("whatsapp", "Ana.txt", LONG_CHAT, None, None)
    assert caught.value.what == (
        "Ana.txt is a chat, and the recipe does not say whose messages are the answers; there speak: Luis (5), Ana (5)"
    )
    assert caught.value.fix == 'name the person in the recipe: data: {examples: [{files: "Ana.txt", person: "Ana"}]}'


def test_a_person_who_is_not_there_is_told_with_the_likely_one() -> None:
    with pytest.raises(DataError) as caught:
        read_chat("whatsapp", "Ana.txt", LONG_CHAT, "anna", None)
    assert caught.value.what == "Ana.txt: nobody is called 'anna'; there speak: Luis (5), Ana (5)"
    assert caught.value.fix.endswith('person: "Ana"}]}')


def test_a_chat_without_messages_is_told() -> None:
    with pytest.raises(DataError, match="holds no messages"):
        read_chat("whatsapp", "Ana.txt", "1/2/24, 9:00 - Ana: <Media omitted>", "Ana", None)


# ── Telegram ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def message(number: int, time: str, who: str | None, text: Any, **more: Any) -> dict[str, Any]:
    sender = {"from": who, "from_id": f"user{number}"}
    return {"id": number, "type": "message", "date": f"2024-01-31T{time}", "date_unixtime": "1", **sender, "text": text, **more}


TELEGRAM = [
    {"id": 1, "type": "service", "date": "2024-01-31T09:00:00", "actor": "Ana", "action": "create_group"},
    message(2, "09:00:00", "Ana", ["mira ", {"type": "link", "text": "https://x.org"}, " y di"]),
    message(3, "09:01:00", "Ana", "", photo="photos/1.jpg"),
    message(4, "09:02:00", "Luis", "sí"),
]


def test_a_chat_of_telegram_is_read() -> None:
    text = telegram(TELEGRAM)
    assert recognise_chat("result.json", text) == "telegram"
    (conversation,), findings = parts(read_chat("telegram", "result.json", text, "Luis", None))
    assert turns(conversation) == [("user", "mira https://x.org y di"), ("assistant", "sí")]
    assert text.split("\n")[conversation.source.line - 1].strip() == '"id": 2,'
    assert conversation.group == "Ana 2024-01-31 09:00"
    assert [finding.check for finding in findings] == ["not-text"]


def test_all_chats_of_telegram_are_read_each_by_itself() -> None:
    chats = [json.loads(telegram(TELEGRAM)), json.loads(telegram(TELEGRAM, name="Eva")), {"name": None, "id": 8, "messages": []}]
    text = json.dumps({"about": "…", "chats": {"about": "…", "list": chats}})
    assert recognise_chat("result.json", text) == "telegram"
    conversations, _findings = parts(read_chat("telegram", "result.json", text, "Luis", None))
    assert [conversation.group for conversation in conversations] == ["Ana 2024-01-31 09:00", "Eva 2024-01-31 09:00"]


def test_a_deleted_account_is_called_by_its_number() -> None:
    text = telegram([message(2, "09:00:00", None, "a"), message(4, "09:02:00", "Luis", "b")])
    with pytest.raises(DataError, match="user2"):
        read_chat("telegram", "result.json", text, "Ana", None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"messages": [\n{"from_id": 1', "result.json:2: not JSON: it breaks off"),
        (telegram([message(2, "x", "Ana", "a")]), "result.json:7: a message has no date"),
    ],
)
def test_a_broken_export_is_told_with_its_line(text: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        read_chat("telegram", "result.json", text, "Ana", None)
    assert caught.value.what == what


# ── Slack ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

USERS = json.dumps(
    [
        {"id": "U1", "name": "ana", "profile": {"real_name": "Ana López", "display_name": "ana"}},
        {"id": "U2", "name": "luis", "real_name": "Luis Gil", "profile": {}},
    ]
)


def posted(stamp: str, user: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "ts": stamp, "user": user, "text": text, **more}


DAY = json.dumps(
    [
        posted("1706691600.000100", "U1", "<@U2> see <https://x.org|here> in <#C1|general> &amp; say &lt;ok&gt; <!here>"),
        posted("1706691700.000100", "U3", "x has joined", subtype="channel_join"),
        posted("1706691800.000100", "U1", "How?", thread_ts="1706691800.000100"),
        posted("1706691900.000100", "U2", "ok"),
    ],
    indent=2,
)
NEXT_DAY = json.dumps([posted("1706778000.000100", "U2", "So.", thread_ts="1706691800.000100")])


def test_an_export_of_slack_is_read_with_names_and_threads() -> None:
    members = {"users.json": USERS, "general/2024-01-31.json": DAY, "general/2024-02-01.json": NEXT_DAY, "canvases.json": "[]"}
    assert is_slack_export(members)
    conversations, findings = parts(read_slack("export.zip", members, "luis gil", None))
    assert [turns(conversation) for conversation in conversations] == [
        [("user", "@Luis Gil see here in #general & say <ok> @here"), ("assistant", "ok")],
        [("user", "How?"), ("assistant", "So.")],
    ]
    assert [str(conversation.source) for conversation in conversations] == [
        "export.zip/general/2024-01-31.json:4",
        "export.zip/general/2024-01-31.json:17",
    ]
    assert findings == []


def test_a_single_day_of_slack_takes_the_names_that_stand_in_it() -> None:
    profile = {"real_name": "Ana López"}
    text = json.dumps([posted("1706691600.1", "U1", "a", user_profile=profile), posted("1706691601.1", "U2", "b")])
    assert recognise_chat("general/2024-01-31.json", text) == "slack"
    (conversation,), _findings = parts(read_chat("slack", "general/2024-01-31.json", text, "U2", None))
    assert turns(conversation) == [("user", "a"), ("assistant", "b")]
    with pytest.raises(DataError, match=r"Ana López \(1\), U2 \(1\)"):
        read_chat("slack", "general/2024-01-31.json", text, None, None)


@pytest.mark.parametrize("names", [["users.json"], ["general/2024-01-31.json"], ["users.json", "general/notes.json"], []])
def test_other_folders_are_no_export_of_slack(names: list[str]) -> None:
    assert not is_slack_export(names)


def test_a_broken_day_of_slack_is_told() -> None:
    for text in ('{"a": 1}', json.dumps([posted("x", "U1", "a")])):
        with pytest.raises(DataError, match=r"^2024-01-31.json:1: "):
            read_chat("slack", "2024-01-31.json", text, "U1", None)


# ── whatever may come ─────────────────────────────────────────────────────────────────────────────────────────────────

SPOKEN = st.lists(
    st.tuples(
        st.integers(0, 400), st.sampled_from(["Ana", "Luis", "Eva"]), st.sampled_from(["a", "b: c", "", "<Media omitted>"])
    ),
    max_size=12,
)


@given(SPOKEN)
def test_conversations_take_turns_and_lose_nothing_unsaid(spoken: list[tuple[int, str, str]]) -> None:
    minutes = 0
    lines = []
    for gap, who, text in spoken:
        minutes += gap
        lines.append(f"{1 + minutes // 1440:02}/01/2024, {minutes // 60 % 24:02}:{minutes % 60:02} - {who}: {text}")
    kind: ChatKind = "whatsapp"
    try:
        conversations, findings = parts(read_chat(kind, "c.txt", "\n".join(lines), "Luis", None))
    except DataError:
        assert all(who != "Luis" or text in ("", "<Media omitted>") for _gap, who, text in spoken)
        return
    for conversation in conversations:
        roles = [message.role for message in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles
    kept = sum(len(message.content.split("\n")) for conversation in conversations for message in conversation.messages)
    counted = {finding.check: int(finding.reason.split()[-1]) for finding in findings}
    assert counted.get("not-text", 0) == sum(text in ("", "<Media omitted>") for _gap, _who, text in spoken)
    without_sessions = kept + counted.get("not-text", 0) + counted.get("role-order", 0)
    assert without_sessions + counted.get("no-answer", 0) <= len(spoken)
    assert without_sessions == len(spoken) or "no-answer" in counted


@pytest.mark.parametrize("middle", [" ", "<", "a", "\u200e", "a.jpg (", "\n"])
def test_a_very_long_message_takes_no_long_time(middle: str) -> None:
    text = f"1/2/24, 9:00 - Ana: x{middle * 500_000}x"
    ((_line, _time, who, what),) = read_whatsapp(text)
    assert (who, len(what) >= 2) == ("Ana", True)


def test_lines_are_found_where_ids_are_missing_or_written_without_blanks() -> None:
    text = telegram(TELEGRAM).replace('"id": ', '"id":').replace('"id":2,', '"n":2,')
    (conversation,), _findings = parts(read_chat("telegram", "result.json", text, "Luis", None))
    assert 1 <= conversation.source.line <= text.count("\n") + 1
