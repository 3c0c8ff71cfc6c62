"""A shop's data as ``prepare`` would tell of it: two languages, every kind of finding, a limit that some rows exceed."""

from __future__ import annotations

import random

from afina.report.prepared import (
    DocumentFlow,
    FileFlow,
    Found,
    FoundRow,
    Kind,
    PreparePage,
    ShownRow,
    Side,
    Step,
    Twins,
    measure_lengths,
)

_chance = random.Random(7)
TOKENS = [round(min(2600, max(9, _chance.lognormvariate(5.1, 0.75)))) for _row in range(412)]

SHOP = PreparePage(
    language="en",
    name="tienda",
    base="Qwen/Qwen2.5-0.5B-Instruct",
    template="the base's own",
    verdict="361 good examples: 200 to 500 are what a style or a task needs. 51 of 412 rows were left out, each with its reason.",
    next_steps=(
        "Look at the 4 rows with bank accounts and identity numbers; `redact: true` replaces them.",
        "Fill in the 3 blanks such as {{name}}, or leave those rows out: `data: {checks: {placeholder: drop}}`.",
        "Then train: `afina train tienda`.",
    ),
    files=(
        FileFlow(
            "preguntas.xlsx[Atención]",
            "excel",
            "question/answer",
            "the columns «Pregunta» and «Respuesta»",
            "",
            214,
            190,
            24,
            "user: ¿Hacéis envíos a Canarias?\nassistant: Sí. Tardan de cinco a siete días laborables y cuestan 9,90 €.",
        ),
        FileFlow(
            "chats.zip/2024.jsonl",
            "jsonl",
            "messages",
            "the key «messages» holds a list of roles and contents",
            "utf-8",
            150,
            134,
            16,
            "user: Where is my parcel?\nassistant: I can look it up. What is the order number?\nuser: ORD-20431",
        ),
        FileFlow("viejo.csv", "csv", "two columns", "exactly two columns with text", "cp1252", 48, 37, 11, ""),
    ),
    documents=(
        DocumentFlow("manual.pdf", 84, ""),
        DocumentFlow("albarán escaneado.pdf", 0, "page images without text; a program for text recognition (OCR) is needed"),
    ),
    flow=(
        Step("read", 412),
        Step("reading", 401, (("broken-row", 6), ("empty", 3), ("no-answer", 2))),
        Step("text", 397, (("refusal", 4),), changed=11),
        Step("tokens", 390, (("too-long", 6), ("special-token", 1))),
        Step("set", 361, (("duplicate", 22), ("contradiction", 5), ("leak", 2))),
    ),
    sides=(
        Side("train", 289, 289, 52_310, 21_877),
        Side("val", 36, 36, 6_480, 2_702),
        Side("test", 36, 36, 6_702, 2_815),
    ),
    lengths=measure_lengths(TOKENS, 1024),
    languages=(("es", 241), ("en", 112), ("", 8)),
    kinds=(
        Kind(
            ("envío", "pedido", "llega", "días"),
            0.34,
            123,
            ("¿Cuándo llega mi pedido?", "¿Hacéis envíos a Canarias?", "El envío pone entregado y no lo tengo"),
        ),
        Kind(
            ("devolver", "talla", "cambio", "zapatos"),
            0.27,
            97,
            ("Quiero devolver unos zapatos", "¿Puedo cambiar la talla después de 15 días?", "¿La devolución es gratis?"),
        ),
        Kind(
            ("invoice", "payment", "card", "refund"),
            0.22,
            80,
            ("Can I pay with two cards?", "I need an invoice for last month", "When will I see my refund?"),
        ),
        Kind(
            ("account", "password", "email"),
            0.17,
            61,
            ("I forgot my password", "How do I change my e-mail address?", "Please delete my account"),
        ),
    ),
    found=(
        Found(
            "bank-account",
            "error",
            "warn",
            "a bank account's number",
            3,
            (FoundRow("chats.zip/2024.jsonl:18", "an IBAN in the question", "Mi cuenta es ES•• •••• •••• •••• •••• ••32"),),
        ),
        Found(
            "identity-number",
            "error",
            "warn",
            "a person's or a company's identity number",
            1,
            (FoundRow("preguntas.xlsx[Atención]:77", "a Spanish DNI in the question", "DNI ••••••••Z"),),
        ),
        Found(
            "broken-row",
            "error",
            "drop",
            "the row cannot be read",
            6,
            tuple(FoundRow(f"viejo.csv:{line}", "a quotation mark is opened and never closed") for line in (7, 12, 31)),
        ),
        Found(
            "duplicate",
            "warning",
            "drop",
            "the same row stands there already",
            22,
            (FoundRow("chats.zip/2024.jsonl:44", "the same as preguntas.xlsx[Atención]:12", "¿Hacéis envíos a Canarias?"),),
        ),
        Found(
            "mojibake",
            "warning",
            "fix",
            "letters were garbled by a wrong encoding",
            11,
            (FoundRow("viejo.csv:3", "repaired", "devoluciÃ³n → devolución"),),
        ),
        Found(
            "placeholder",
            "warning",
            "warn",
            "a blank that nobody filled in",
            3,
            (FoundRow("preguntas.xlsx[Atención]:90", "{{name}}", "Hola, {{name}}: gracias por escribirnos"),),
        ),
        Found(
            "near-duplicate",
            "info",
            "warn",
            "nearly the same row stands there already",
            9,
            (FoundRow("chats.zip/2024.jsonl:61", "91 % like chats.zip/2024.jsonl:60", "Where is my parcel?"),),
        ),
    ),
    findings_path="runs/tienda/prepare/findings.jsonl",
    duplicates=(
        Twins(
            "preguntas.xlsx[Atención]:12",
            "chats.zip/2024.jsonl:44",
            "¿Hacéis envíos a Canarias?\nSí, en cinco días.",
            "¿Hacéis envíos a Canarias?\nSí, en cinco días.",
            1.0,
        ),
        Twins(
            "chats.zip/2024.jsonl:60",
            "chats.zip/2024.jsonl:61",
            "Where is my parcel?\nIt left our warehouse on Monday.",
            "Where is my order?\nIt left our warehouse on Tuesday.",
            0.91,
        ),
    ),
    contradictions=(
        Twins(
            "preguntas.xlsx[Atención]:15",
            "viejo.csv:22",
            "¿Cuántos días tengo para devolver?\nTienes 30 días.",
            "¿Cuántos días tengo para devolver?\nTienes 14 días naturales.",
            0.8,
        ),
    ),
    leaks=(
        Twins(
            "test.jsonl:3",
            "chats.zip/2024.jsonl:9",
            "Can I pay with two cards?\nNo, one card per order.",
            "Can I pay with two cards?\nNo, one card per order.",
            1.0,
        ),
    ),
    shown=(
        ShownRow(
            "preguntas.xlsx[Atención]:2",
            "train",
            (
                (
                    (
                        "<|im_start|>system\nEres el asistente de una zapatería.<|im_end|>\n"
                        "<|im_start|>user\n¿Hacéis envíos a Canarias?<|im_end|>\n<|im_start|>assistant\n"
                    ),
                    False,
                ),
                ("Sí. Tardan de cinco a siete días laborables y cuestan 9,90 €.<|im_end|>", True),
                ("\n", False),
            ),
        ),
        ShownRow(
            "chats.zip/2024.jsonl:7",
            "test",
            (
                ("<|im_start|>user\nWhere is my parcel?<|im_end|>\n<|im_start|>assistant\n", False),
                ("I can look it up. What is the order number?<|im_end|>", True),
                ("\n<|im_start|>user\nORD-20431<|im_end|>\n<|im_start|>assistant\n", False),
                ("It left our warehouse on Monday and should reach you tomorrow.<|im_end|>", True),
                ("\n", False),
            ),
        ),
    ),
    settings=(
        ("limit", "1,024 tokens"),
        ("long rows", "left out"),
        ("answers learned", "all"),
        ("split", "10 % test, 10 % validation"),
        ("redact", "no"),
    ),
    finished="2026-01-01T10:00:00Z",
    seconds=1.84,
    version="0.4.0",
)
