"""Each check of a row's text: an example that it finds, one that it leaves alone, and what its actions do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from afina.data.clean.checks import Action, actions, checks
from afina.data.clean.row import Cleaner
from afina.data.conversation import Conversation, Finding, Message, Source, ToolCall

PLACE = Source("examples.jsonl", 3)
IN_TEXT = [check.id for check in checks().values() if check.scope == "text"]
BILLING = "Cancel it in your account under Billing before the end of the month."

# check → (question, answer) that it finds, and such that it leaves alone.
EXAMPLES: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "mojibake": (
        [
            ("¿Dónde estáis?", "Estamos en la calle Alcalá, junto al cafÃ©."),
            ("donâ€™t you?", "No."),
            ("?", "se perdi\ufffd una letra"),
        ],
        [
            ("¿Qué tal?", "«Así es», dijo él: 25 °C, 3 × 4, ñandú… ¡Él!"),
            ("Œuvre?", "Sœur, cœur, naïve — “oui”."),
            ("?", "SÃO PAULO"),
        ],
    ),
    "control-characters": (
        [
            ("a\x00b", "ok"),
            ("x", "zero\u200bwidth"),
            ("\ufeffHi", "ok"),
            ("x", "a\x1b[31mred"),
            ("x", "user\u202egpj.exe"),
            ("x", "co\u00adop"),
        ],
        [
            ("a\tb\r\nc\n", "ok"),
            ("x", "👩\u200d👩\u200d👧 ❤\ufe0f 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"),
            ("x", "می\u200cخواهم"),
            ("x", "שלום \u200fabc"),
            ("x", "क्\u200dष"),
            ("x", "ภาษา\u200bไทย"),
            ("x", "à\u00a0la carte"),
        ],
    ),
    "placeholder": (
        [
            ("Hi", "I am {{name}}, how can I help?"),
            ("Hi", "Dear [Your Name],"),
            ("Hola", "Estimado [NOMBRE]:"),
            ("Hola", "Saludos, [Nombre del cliente]"),
            ("x", "Mail to <your email here>."),
            ("x", "Lorem ipsum dolor sit amet"),
            ("x", "Price: TBD"),
            ("Hello {customer_name}", "ok"),
            ("x", "Call XXX-XXX-XXXX."),
            ("x", "TODO: write this"),
            ("x", "[INSERT DATE]"),
        ],
        [
            ("x", "Use ```jinja\n{{ user.name }}\n``` or `{{name}}`."),
            ("x", r"\frac{{a}}{{b}} and $\mathbb{{R}}$"),
            ("x", "see [1] and [link](http://x.y)"),
            ("x", "- [x] done\n- [ ] open"),
            ("x", "TODO INCLUIDO desde 30 €"),
            ("x", "Super Bowl XXX was in 1996."),
            ("x", "<b>name</b> and <p>"),
            ("x", 'The set {a, b} and {"name": 1}'),
            ("x", "arr[name] = 3; a[0]"),
        ],
    ),
    "refusal": (
        [
            ("x", "I'm sorry, but I can't help with that."),
            ("x", "I cannot provide medical advice."),
            ("x", "Lo siento, pero no puedo ayudarte con eso."),
            ("x", "No puedo proporcionar esa información."),
            ("x", "Desculpe, não posso ajudar com isso."),
            ("x", "Je ne peux pas vous aider."),
            ("x", "很抱歉，我无法帮助您。"),
        ],
        [
            ("x", "I'm sorry to hear that. Your refund is on its way."),
            ("x", "You cannot return opened items."),
            ("x", "Sentimos la espera. No puede devolverse abierto."),
            ("x", "No, no es posible cambiarlo después de 30 días."),
            ("x", "We can't ship to islands; please choose a shop."),
        ],
    ),
    "ai-talk": (
        [
            ("x", "As an AI language model, I think so."),
            ("x", "I am an AI assistant."),
            ("x", "Como modelo de lenguaje, no tengo opiniones."),
            ("x", "Soy una inteligencia artificial."),
            ("x", "En tant qu'IA, je pense."),
            ("x", "Sou uma IA."),
            ("x", "I was trained by OpenAI."),
        ],
        [
            ("x", "AI models such as chatbots learn from text."),
            ("x", "La IA cambia la industria; un modelo de lenguaje predice palabras."),
            ("x", "He said: again, it was said."),
        ],
    ),
    "cut-answer": (
        [
            ("x", "```python\nprint(1)"),
            ("x", '{"name": "Ana", "age": 3'),
            ("x", '["a", "b'),
            ("x", "First you open the door and then you take the"),
            ("x", "Primero abres la puerta y luego coges el paquete de"),
            ("x", "There are apples, pears, plums,"),
            ("x", "It is a very well-known inter-"),
        ],
        [
            ("x", "```python\nprint(1)\n```"),
            ("x", '{"name": "Ana"}'),
            ("x", "[A] is right"),
            ("x", "the"),
            ("x", "no full stop at the end of this line"),
            ("x", "It comes with batteries included, and what for"),
            ("x", "{curly} words may open an answer"),
            ("x", ""),
        ],
    ),
    "other-language": (
        [
            (
                "¿Cómo puedo cancelar mi suscripción antes de que termine el mes?",
                "You can cancel it in your account under Billing, before the end of the month.",
            )
        ],
        [
            (
                "¿Cómo puedo cancelar mi suscripción antes de que termine el mes?",
                "Puedes cancelarla en tu cuenta, en Facturación, antes de que termine el mes.",
            ),
            (
                "¿Cómo se dice en inglés «puedes cancelar la suscripción en tu cuenta»?",
                "You can cancel the subscription in your account, it is that easy.",
            ),
            ("¿Qué intención tiene esta frase?", "cancel_order"),
            ("¿Cómo se hace un bucle en Python?", "```python\nfor the in of and to is that it with as:\n    pass\n```"),
        ],
    ),
    "email": (
        [
            ("x", "Write to ana.garcia@correo.es."),
            ("我的邮箱是jane.doe@mail.com。", "x"),
            ("x", "<a href='mailto:J_D+x@sub.mail.co.uk'>"),
        ],
        [("x", "@ana and user@host and a@b"), ("x", "Vue @click @media 5 @ 3€"), ("x", "git@github")],
    ),
    "phone": (
        [
            ("Llámame al 612345678", "ok"),
            ("Tel. 91 123 45 67", "ok"),
            ("x", "+34 612 345 678"),
            ("x", "Call (212) 555-2368 now"),
            ("x", "+52 55 1234 5678"),
            ("Mi WhatsApp: 55 1234 5678", "ok"),
            ("x", "0034 612 345 678"),
        ],
        [
            ("In 2023, 1,234,567 people", "paid 12.345.678 euros"),
            ("x", "on 2024-01-15 10:30, 1990-2020"),
            ("ORD-12345678", "order 6123456789"),
            ("Mi pedido 612345678", "https://x.com/item/612345678"),
            ("x", "48/2 = <<48/2=24>>24 phones #### 612345678"),
            ("x", "3.14159265 and 192.168.100.200"),
            ("x", "ISBN 978-3-16-148410-0"),
            ("phones cost", "10000-2500 = <<10000-2500=7500>>7500"),
            ("x", "= 3600000000 + 1234567800 + 4"),
        ],
    ),
    "card-number": (
        [("x", "4111 1111 1111 1111"), ("x", "5500-0055-5555-5559"), ("x", "card 378282246310005")],
        [("x", "4111 1111 1111 1112"), ("x", "1700000000000"), ("x", "9780306406157"), ("x", "0000 0000 0000 0000")],
    ),
    "bank-account": (
        [
            ("x", "IBAN ES91 2100 0418 4502 0005 1332 GRACIAS"),
            ("x", "GB82WEST12345698765432"),
            ("CLABE: 032180000118359719", "x"),
            ("Cuenta 2100 0418 45 0200051332", "x"),
        ],
        [("x", "ES91 2100 0418 4502 0005 1333"), ("x", "032180000118359719"), ("x", "2100 0418 45 0200051332")],
    ),
    "identity-number": (
        [
            ("DNI 12345678Z", "x"),
            ("x", "X1234567L"),
            ("CIF B58818501", "x"),
            ("x", "HEGG560427MVZRRL04"),
            ("x", "GODE561231GR8"),
            ("x", "529.982.247-25"),
            ("cpf 52998224725", "x"),
            ("x", "11.444.777/0001-61"),
            ("x", "20-26756539-3"),
            ("x", "12.345.678-5"),
            ("NIT 900.123.456-8", "x"),
            ("x", "536-90-4399"),
            ("RUC 20512333797", "x"),
            ("Mi DNI es 30.123.456", "x"),
            ("passport AAB123456", "x"),
        ],
        [
            ("x", "12345678A"),
            ("x", "B58818501"),
            ("x", "52998224725"),
            ("x", "529.982.247-26"),
            ("x", "536-00-4399"),
            ("x", "30.123.456"),
            ("x", "ABC240115001"),
        ],
    ),
    "secret": (
        [
            ("x", "AKIAIOSFODNN7EXAMPLE"),
            ("x", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
            ("password: hunter2x", "x"),
            ("mi contraseña es Perro2024!", "x"),
            ("x", '{"password": "a1b2c3d4"}'),
            ("x", "postgres://bob:s3cretpw@db.host/x"),
            ("x", "sk-ant-api03-abcDEF123456abcDEF123456"),
            ("x", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----"),
            ("x", "xoxb-123456789012-1234567890123-abcDEF"),
        ],
        [
            ("¿Contraseña?", "Tu contraseña: la que elegiste en 2024."),
            ("x", "password: <your_password1>"),
            ("x", "password: ********"),
            ("x", "The password is required."),
            ("x", "LOS APARTAMENTOS2 DE LA PLAYA"),
            ("x", "https://example.com/a/very/long/path/with/many/parts/2024"),
            ("x", "d41d8cd98f00b204e9800998ecf8427e"),
        ],
    ),
}


def row(question: str, answer: str, system: str | None = None) -> Conversation:
    said = [Message("user", question), Message("assistant", answer)]
    return Conversation((*([Message("system", system)] if system else []), *said), PLACE)


def cleaned(talk: Conversation, chosen: Mapping[str, str] | None = None) -> tuple[Conversation | None, list[Finding]]:
    return Cleaner(actions(chosen or {}, redact=False), 3).clean(talk)


def found(check: str, question: str, answer: str) -> bool:
    return any(finding.check == check for finding in cleaned(row(question, answer))[1])


def test_every_check_of_a_rows_text_has_examples() -> None:
    assert list(EXAMPLES) == IN_TEXT


@pytest.mark.parametrize(
    ("check", "question", "answer"), [(check, *one) for check, (hits, _misses) in EXAMPLES.items() for one in hits]
)
def test_a_check_finds_what_it_is_for(check: str, question: str, answer: str) -> None:
    assert found(check, question, answer)


@pytest.mark.parametrize(
    ("check", "question", "answer"), [(check, *one) for check, (_hits, misses) in EXAMPLES.items() for one in misses]
)
def test_a_check_leaves_alone_what_only_looks_like_it(check: str, question: str, answer: str) -> None:
    assert not found(check, question, answer)


@pytest.mark.parametrize("check", IN_TEXT)
def test_a_check_that_is_off_finds_nothing_and_one_that_drops_leaves_the_row_out(check: str) -> None:
    talk = row(*EXAMPLES[check][0][0])
    kept, findings = cleaned(talk, {check: "off"})
    assert kept is not None
    assert check not in {finding.check for finding in findings}
    kept, findings = cleaned(talk, {check: "drop"})
    assert kept is None
    assert [(finding.check, finding.done) for finding in findings] == [(check, "dropped")]


@pytest.mark.parametrize("check", IN_TEXT)
def test_a_warning_changes_nothing(check: str) -> None:
    everything_off: dict[str, str] = dict.fromkeys(IN_TEXT, "off")
    talk = row(*EXAMPLES[check][0][0])
    kept, findings = Cleaner(actions({**everything_off, check: "warn"}, redact=False), 3).clean(talk)
    assert kept is talk
    assert [(finding.check, finding.done, finding.source) for finding in findings] == [(check, "kept", PLACE)]


def test_a_clean_row_comes_back_as_the_same_object() -> None:
    talk = row("How do I cancel?", BILLING)
    assert cleaned(talk) == (talk, [])
    assert cleaned(talk)[0] is talk


def test_mojibake_is_repaired_line_by_line_and_shown_before_and_after() -> None:
    talk = row("¿QuÃ© tal?\r\n¿Él?", "Bien, en el café.\nEn el cafÃ©, digo.")
    kept, findings = cleaned(talk)
    assert kept == row("¿Qué tal?\r\n¿Él?", "Bien, en el café.\nEn el café, digo.")
    assert [finding.done for finding in findings] == ["changed"]
    assert "cafÃ©" in findings[0].excerpt
    assert "café" in findings[0].excerpt.partition("→")[2]


def test_a_lost_letter_is_told_and_not_mended() -> None:
    kept, findings = cleaned(row("x", "se perdi\ufffd una letra"))
    assert kept == row("x", "se perdi\ufffd una letra")
    assert [finding.done for finding in findings] == ["kept"]


def test_control_characters_are_taken_out_and_line_ends_stay() -> None:
    kept, findings = cleaned(row("a\x00b\r\nc", "zero\u200bwidth\tend\n"))
    assert kept == row("ab\r\nc", "zerowidth\tend\n")
    assert findings[0].done == "changed"
    assert "U+0000" in findings[0].reason
    assert "⟨U+0000⟩" in findings[0].excerpt


def test_an_answer_that_is_not_trained_is_not_judged() -> None:
    refusing = Message("assistant", "I'm sorry, but I can't help with that.", trained=False)
    talk = Conversation((Message("user", "x"), refusing, Message("user", "y"), Message("assistant", BILLING)), PLACE)
    assert cleaned(talk)[1] == []


def test_a_language_that_the_system_message_asks_for_is_no_finding() -> None:
    asked, answer = EXAMPLES["other-language"][0][0]
    assert cleaned(row(asked, answer, system="Always answer in English."))[1] == []


def test_all_of_a_row_is_redacted_alike_calls_and_tools_too() -> None:
    call = ToolCall("lookup", '{"phone": "612345678", "mail": "ana@correo.es"}')
    talk = Conversation(
        (
            Message("system", "Escribe a ana@correo.es."),
            Message("user", "Mi teléfono es 612345678."),
            Message("assistant", "", calls=(call,)),
            Message("tool", '{"owner": "ANA@correo.es"}', name="lookup"),
            Message("assistant", "El 612345678 es de ana@correo.es."),
        ),
        PLACE,
        tools='[{"description": "Escribe a ana@correo.es"}]',
    )
    kept, findings = Cleaner(actions({}, redact=True), 3).clean(talk)
    assert kept is not None
    arguments = json.loads(kept.messages[2].calls[0].arguments)
    assert kept.messages[0].content == f"Escribe a {arguments['mail']}."
    assert kept.messages[1].content == f"Mi teléfono es {arguments['phone']}."
    assert kept.messages[4].content == f"El {arguments['phone']} es de {arguments['mail']}."
    assert json.loads(kept.messages[3].content) == {"owner": arguments["mail"]}
    assert json.loads(kept.tools) == [{"description": f"Escribe a {arguments['mail']}"}]
    assert "612345678" not in str(kept)
    assert "correo.es" not in str(kept).lower()
    assert {finding.check: finding.done for finding in findings} == {"email": "changed", "phone": "changed"}


def test_no_finding_shows_what_belongs_to_somebody() -> None:
    talk = row(
        "Mi contraseña es Perro2024! y mi correo ana.garcia@correo.es, {{name}}",
        "I'm sorry, but I can't: ana.garcia@correo.es, Perro2024! y 4111 1111 1111 1111; ESTÃ¡ en",
    )
    for redact in (False, True):
        findings = Cleaner(actions({}, redact=redact), 3).clean(talk)[1]
        shown = " ".join(finding.excerpt + finding.reason for finding in findings)
        assert {"secret", "email", "card-number", "placeholder", "refusal"} <= {finding.check for finding in findings}
        assert "Perro2024" not in shown
        assert "ana.garcia" not in shown
        assert "4111 1111 1111 1111" not in shown


def test_a_number_with_a_hidden_character_inside_is_still_found() -> None:
    _kept, findings = cleaned(row("Llámame al 612\u200b345\u200b678", "ok"))
    assert {finding.check for finding in findings} == {"control-characters", "phone"}
    assert not any("345" in finding.excerpt for finding in findings)


def test_odd_texts_raise_nothing(shared_data: Path) -> None:
    cleaner = Cleaner(actions({}, redact=True), 3)
    for text in json.loads((shared_data / "dirty-strings" / "blns.json").read_text(encoding="utf-8")):
        assert cleaner.clean(row(text or "x", text or "x"))[1] is not None
    assert cleaner.clean(row("half a pair \ud83d", "\udc00"))[0] == row("half a pair ", "")


def test_checks_default_action_is_the_one_that_is_listed_first() -> None:
    chosen: dict[str, Action] = actions({}, redact=False)
    assert all(chosen[check.id] == check.actions[0] for check in checks().values())


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1 ", "123456\n", "{{", "[name ", "\\[", "<<", "@", "a@b.", "a1@b.co ", " ai", "i am an ", "```", '"', "é", "Ã",
     "\u200e", "password: ", "://a:", "-----BEGIN PRIVATE KEY-----", "+34 612345678 ", "AA11 1111 ", "eyJ1", "$$",
     "\U000e0041"],
)  # fmt: skip
def test_long_odd_texts_take_no_long_time(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    started = time.process_time()
    Cleaner(actions({}, redact=True), 3).clean(row(text + "{{name}}", text))
    assert time.process_time() - started < 4
