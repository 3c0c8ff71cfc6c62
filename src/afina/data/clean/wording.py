"""What the words of an answer give away: blanks that nobody filled in, refusals, talk of being an AI, an end in the middle.

Each function gives back where it found something, or None. A plain search for a few letters comes before each pattern, so that a
text without them costs a microsecond or two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

Place = tuple[int, int]  # start and end in the text

# ── blanks ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

# What blanks are named after, in English, Spanish, Portuguese and French.
_THINGS = (
    "name|first name|last name|surname|company|company name|date|time|address|e-?mail|phone|phone number|number|product|product "
    "name|"
    "link|url|city|country|state|amount|price|title|position|job title|customer|customer name|client|client name|order number|"
    "recipient|recipient's name|sender|website|school|university|department|employer|manager|brand|location|"
    "nombre|apellidos?|empresa|fecha|hora|direcci[óo]n|correo|correo electr[óo]nico|tel[ée]fono|n[úu]mero|producto|enlace|ciudad|"
    "pa[íi]s|importe|precio|t[íi]tulo|cargo|puesto|cliente|pedido|destinatario|remitente|marca|"
    "nome|data|endere[çc]o|telefone|produto|cidade|nom|pr[ée]nom|adresse|t[ée]l[ée]phone|ville"
)
_FILL_IN = (
    r"(?:insert|enter|add|your|fill in|write|put|specify|"
    r"inserta|inserte|insertar|introduce|introduzca|indica|indique|escribe|escriba|pon|tu|tus|su|sus|vuestro|vuestra|"
    r"insira|inserir|seu|sua|ins[ée]rer|ins[ée]rez|votre)\b"
)
_PLACEHOLDERS = (
    # {{name}}; not \frac{{a}}{{b}}
    ("{{", re.compile(r"(?<![\\\w}^{$])\{\{[ ]?[^\W\d][\w .'-]{0,60}\}\}(?!\})")),
    (
        "{",
        re.compile(
            rf"(?<![\\\w}}^{{$#%\"'])\{{(?:{_THINGS}|[a-z]+_(?:[a-z]+_)?(?:name|id|date|number|email|url|address|nombre|"
            rf"fecha))\}}(?!\}})",
            re.IGNORECASE,
        ),
    ),
    # [INSERT DATE], [Your Name], [Nombre del cliente], [FECHA]; not [text](link), not [1]
    (
        "[",
        re.compile(
            rf"(?<![\w)\]])\[(?:{_FILL_IN}[^\]\[\n]{{0,60}}|(?:{_THINGS})(?: (?:of|del?|da|do|du|de la|de tu|de su|here|"
            rf"aqu[íi])[^\]\[\n]{{0,40}})?)\](?!\()",
            re.IGNORECASE,
        ),
    ),
    (
        "<",
        re.compile(
            rf"<(?:{_FILL_IN}[ _][^<>\n/=\"]{{1,50}}|(?:{_THINGS})[ _](?:here|aqu[íi]|del? [^<>\n/=\"]{{1,40}}))>", re.IGNORECASE
        ),
    ),
    ("orem", re.compile(r"\blorem ipsum\b", re.IGNORECASE)),
    ("TODO", re.compile(r"\bTODO(?=[:(])|\[TODO\b|\bTODO\](?!\()")),
    ("TBD", re.compile(r"\bTBD\b")),
    ("FIXME", re.compile(r"\bFIXME\b")),
    ("xxx", re.compile(r"\bxxx+(?:[-. ]x{2,})+\b|\bx{4,}\b")),
    ("XXX", re.compile(r"\bXXX+(?:[-. ]X{2,})+\b|\bX{4,}\b")),  # a lone XXX is the Roman thirty
)
_CODE = re.compile(r"(?:```|~~~).*?(?:```|~~~|\Z)|`[^`\n]+`|\$\$.{1,2000}?\$\$|\\\[.{1,2000}?\\\]|\\\(.{1,2000}?\\\)", re.DOTALL)


def placeholder(text: str) -> Place | None:
    """The first blank that nobody filled in. Code and formulas are not looked at: there, braces mean something else."""
    for letters, pattern in _PLACEHOLDERS:
        if letters in text and pattern.search(text):
            prose = _CODE.sub(lambda code: " " * len(code.group()), text)
            if found := pattern.search(prose):
                return found.span()
    return None


# ── refusals, and talk of being an AI ───────────────────────────────────────────────────────────────────────────────────

_START = 160  # characters in which an answer that refuses says so

_HELP_EN = (
    r"(?:help|assist|provide|fulfil?l|comply|do that|do this|answer|create|write|generate|produce|engage|support|offer|discuss|"
    r"share|give|"
    r"complete|participate|recommend|perform|access|browse|continue)"
)
_HELP_ES = (
    r"(?:ayudar|asistir|proporcionar|responder|contestar|cumplir|hacer eso|hacer esto|crear|escribir|generar|ofrecer|dar|darte|"
    r"compartir|"
    r"realizar|continuar|acceder|participar|discutir|hablar)"
)
_REFUSALS = re.compile(
    rf"\bi(?:'m| am)? (?:can(?:'|no)t|can not|won't|will not|am unable to|'m unable to|unable to|am not able to|'m not able to|"
    rf"not able to) "
    rf"(?:\w+ )?{_HELP_EN}\b"
    r"|\bi(?:'m| am) (?:really |very |so |truly )?sorry,? (?:but )?(?:i|as an ai|as a language)\b(?! (?:hear|understand|see|am "
    r"sorry))"
    r"|\bi (?:must|have to) (?:respectfully |politely )?(?:decline|refuse)\b"
    r"|\bit(?:'s| is| would be) (?:not appropriate|inappropriate|unethical)(?: \w+){0,3} (?:for me )?to (?:provide|help|assist|"
    r"create|write|generate)\b"
    rf"|\bno (?:te |le |os |les )?pued[oe] (?:\w+ )?{_HELP_ES}(?:te|le|les|os)?\b(?! (?:de alta|de baja|un mejor|más detalles))"
    r"|\blo siento,? (?:pero )?(?:no (?:te |le )?puedo|como (?:un )?(?:modelo|ia)\b|soy una? (?:ia|modelo|asistente))"
    r"|\bno (?:me )?(?:es|está|estoy|tengo) (?:posible|permitido|autorizado|autorizada|permiso)(?: para)? (?:ayudar|"
    r"proporcionar|responder|hacer)"
    rf"|\bnão posso (?:\w+ )?(?:ajudar|fornecer|responder|criar|escrever|gerar|continuar|fazer isso)\b|\bdesculpe,? (?:mas "
    rf")?(?:eu )?não posso"
    r"|\bje ne (?:peux|suis) pas (?:\w+ ){0,3}(?:aider|fournir|répondre|créer|écrire|générer)"
    r"|(?:很抱歉|抱歉|对不起)[，,]?(?:但是?)?我(?:无法|不能|没有办法)|我(?:无法|不能)(?:提供|回答|满足|完成|帮助|协助)"
)
_AI_TALK = re.compile(
    r"\bas an? (?:\w+ ){0,3}(?:ai|artificial intelligence|language model|chatbot)\b"
    r"|\bi(?:'m| am)(?: just| only| merely| actually)? (?:an?|the) (?:[\w-]+ ){0,3}(?:ai|artificial intelligence|language model|"
    r"chatbot)\b"
    r"|\bi(?:'m| am) [^.!?\n]{1,40}, an? (?:\w+ ){0,2}(?:ai|language model|chatbot)\b"
    r"|\bi(?:'m| am) chatgpt\b|\bmy (?:training data|knowledge cut-?off)\b"
    r"|\bi(?:'m| am| was|'ve been| have been) (?:[^.!?\n]{0,40} )?(?:trained|developed|created|made|built) by (?:openai|"
    r"anthropic)\b"
    r"|\bcomo (?:una? )?(?:\w+ )?(?:ia\b|inteligencia artificial|modelo de (?:lenguaje|ia\b)|modelo de inteligencia artificial)"
    r"|\bsoy (?:solo |sólo |solamente |simplemente )?una? (?:\w+ )?(?:ia\b|inteligencia artificial|modelo de lenguaje|asistente "
    r"de ia\b|chatbot)"
    r"|\b(?:fui|soy|he sido|sido) (?:[^.!?\n]{0,40} )?(?:entrenad[oa]|desarrollad[oa]|cread[oa]) por (?:openai|anthropic)\b|"
    r"\bmis datos de entrenamiento\b"
    r"|\bcomo (?:um|uma) (?:\w+ )?(?:ia\b|inteligência artificial|modelo de linguagem)|\bsou (?:um|uma) (?:\w+ )?(?:ia\b|"
    r"inteligência artificial|modelo de linguagem)"
    r"|\ben tant qu(?:e |')(?:une? )?(?:\w+ )?(?:ia\b|intelligence artificielle|modèle de langage)"
    r"|\bje suis (?:une? )(?:\w+ )?(?:ia\b|intelligence artificielle|modèle de langage)"
    r"|作为(?:一个|一名|一种)?(?:人工智能|ai|语言模型)|我是(?:一个|一名|一款)?(?:人工智能|ai|语言模型)"
)
# One of these stands in every text that the patterns above find.
_REFUSAL_SIGNS = (
    "sorry", "can't", "cannot", "can not", "won't", "will not", "able to", "decline", "refuse", "appropriate", "unethical",
    "pued", "siento", "no es", "no está", "no tengo", "no me", "não", "ne peux", "ne suis", "我无法", "我不能", "抱歉", "对不起",
)  # fmt: skip
_AI_SIGNS = (
    "artificial", "language model", "chatbot", "chatgpt", "openai", "anthropic", "y training d", "y knowledge c",
    "datos de entrena", "modelo de l", "modèle de l", "qu'ia", "作为", "我是",
)  # fmt: skip
_AROUND = 90  # characters on each side of a sign in which its phrase stands
_AI_WORD = re.compile(r" (?:ai|ia)\b")


def refusal(folded: str) -> Place | None:
    """Where an answer refuses: at its start, for later on a "cannot" belongs to the matter. ``folded``: see ``fold``."""
    start = folded[:_START]
    if not any(sign in start for sign in _REFUSAL_SIGNS):
        return None
    found = _REFUSALS.search(start)
    return found.span() if found else None


def ai_talk(folded: str) -> Place | None:
    """Where an answer speaks of being a language model, anywhere. ``folded``: see ``fold``."""
    for at in _signs(folded):
        if found := _AI_TALK.search(folded, max(0, at - _AROUND), at + _AROUND):
            return found.span()
    return None


def _signs(folded: str) -> Iterator[int]:
    for sign in _AI_SIGNS:
        at = folded.find(sign)
        while at >= 0:
            yield at
            at = folded.find(sign, at + _AROUND // 2)
    if " ai" not in folded and " ia" not in folded:
        return
    behind = 0
    for word in _AI_WORD.finditer(folded):
        if word.start() >= behind:
            yield word.start()
            behind = word.start() + _AROUND // 2


def fold(text: str) -> str:
    """Lower case and straight apostrophes, letter for letter: a place in it is a place in the text."""
    lower = text.lower()
    return (lower if len(lower) == len(text) else text).replace("’", "'")


# ── an end in the middle ────────────────────────────────────────────────────────────────────────────────────────────────

_LAST_WORDS = frozenset(
    (
        "the an and or but nor of because than which whose el los las un una unos unas y e o u pero ni de del con que "
        "porque para por cuyo cuya sino os uma e ou mas da do das dos com porque le les une et ou mais du des avec "
        "parce der die das ein eine und oder aber weil dass"
    ).split()
)
_LEAST_WORDS = 5  # a label or a title may end with such a word
_TAIL = 80
_FENCE = re.compile(r"^[ >]*(?:```|~~~)", re.MULTILINE)


def cut(answer: str) -> Place | None:
    """The end of an answer that breaks off: code left open, JSON left open, a comma, a hyphen, "and", "the", "de" …

    Strong signs only: a missing full stop is none.
    """
    end = len(answer.rstrip())
    tail = answer[max(0, end - _TAIL) : end]
    if not tail:
        return None
    if ("```" in answer or "~~~" in answer) and len(_FENCE.findall(answer)) % 2:
        return end - len(tail), end
    if answer[:_TAIL].lstrip()[:1] in ("{", "[") and _json_breaks_off(answer):
        return end - len(tail), end
    if answer.count(" ") < _LEAST_WORDS - 1:
        return None
    last = tail.rsplit(None, 1)[-1]
    if last in _LAST_WORDS or (last[-1] in ",;-‐–—" and last[:-1].isalpha()):
        return end - len(last), end
    return None


def _json_breaks_off(answer: str) -> bool:
    """Whether the text is the beginning of JSON and no more: it reads well up to its very end."""
    try:
        json.loads(answer)
    except json.JSONDecodeError as error:
        return error.pos >= len(answer.rstrip()) or error.msg.startswith("Unterminated string")
    except RecursionError:
        return False
    return False
