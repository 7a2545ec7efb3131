"""What a sentence says is not there: "a cat without glasses", "empty street, no people", 没戴眼镜的猫.

Encoders of pictures and texts hardly read negation: they find what such a sentence names (Alhamoud et al., CVPR 2025,
arXiv:2501.09425). As a term that is taken away it counts; benchmarks/negation.py measures by how much. What is
recognised is what is certain: a thing of a few words behind a word that negates, and something else that is wanted.
Clothes that are not worn are left in the sentence: bare skin is to be seen, and encoders have seen it so described.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from clipsearch.query.terms import Query, Text
from clipsearch.query.understanding.gate import may_negate

WEIGHT = 0.5
"""How much a thing that is not there counts against what shows it."""

_MAX_WORDS = 3
"""A thing that is not there has no more words; what is longer is rarely one."""


class Negation(NamedTuple):
    """The part of a sentence that is searched for, and the negated things; none unless the negation is certain."""

    kept: str
    taken_away: tuple[str, ...]


class _Language(NamedTuple):
    """Words of a language, as patterns.

    lacks: what negates a thing wherever it stands. none: what does so after a comma or a `but`. but: what may stand
    before either. article: what a thing may begin with. joins: what stands between several things. ends: what a thing
    does not have. idioms: what is not a thing, though it is negated.
    """

    lacks: str
    none: str
    but: str
    article: str
    joins: str
    ends: str
    idioms: str


_LANGUAGES = (
    _Language(
        lacks=r"without|with\s+no|w/o|with\s+neither",
        none=r"no|not(?=\s+(?:an?|the)\s)",
        but=r"and|but",
        article=r"an?|any|the|some|his|her|its|their",
        joins=r"or|and|nor",
        ends=r"on|in|at|by|near|under|over|with|next|behind|beside|along|from|during|while|who|that|which|is|are|was|"
        r"were|but|\w+ing",
        idioms=r"doubts?|hesitation|end|borders?|frontiers|cause|words?|country|reason|warning|fail|fear|limits?|"
        r"exception|mercy|delay|question|permission|you|me|him|us|them|it|one|more|way|idea|matter|longer|problem|"
        r"pain|gain|cost|effort|success|help|purpose|smoking|parking|entry|exit|trespassing|\w+ing|\d+|name|"
        r"dogs\s+allowed|place\s+like|stone\s+unturned|love|hope|\w+\s+in\s+sight|"
        r"shirts?|t-shirts?|clothes|clothing|tops?|pants|trousers|shorts|shoes?|socks?|bras?|dress|underwear",
    ),
    _Language(
        lacks=r"ohne",
        none=r"keine?[nmr]?",
        but=r"und|aber",
        article=r"eine?[nmrs]?|der|die|das|den|dem|jede[nmrs]?|seine?[nmr]?|ihre?[nmr]?",
        joins=r"oder|und|noch",
        ends=r"auf|in|im|an|am|bei|vor|hinter|unter|über|neben|mit|der|die|das|beim|während|ist|sind",
        idioms=r"zweifel|ende|worte?|grenzen|grund|dich|mich|uns|ihn|sie|titel|weiteres|sorgen?|ahnung|angst|probleme?|"
        r"frage|gewähr|moos|fleiß|namen|liebe|"
        r"hemd|t-shirt|kleidung|kleider|oberteil|hosen?|schuhe?|socken|unterwäsche",
    ),
    _Language(
        lacks=r"sans",
        none=r"pas\s+de|pas\s+d['’]|aucune?",
        but=r"et|mais",
        article=r"une?|des|de|le|la|les|son|sa|ses",
        joins=r"ou|et|ni",
        ends=r"sur|dans|en|au|aux|à|près|devant|derrière|sous|avec|chez|qui|que|est|sont|pendant",
        idioms=r"doute|fin|abri|abris|papiers?|fil|titre|cesse|frontières?|toi|moi|lui|elle|eux|nom|issue|faim|raison|"
        r"arrêt|souci|problème|gêne|peur|faute|domicile|famille|plomb|amour|visage|"
        r"chemise|t-shirt|vêtements?|haut|pantalon|chaussures?|chaussettes?",
    ),
    _Language(
        lacks=r"sin",
        none=r"ning[uú]na?|ning[uú]n",
        but=r"y|pero",
        article=r"una?|unos|unas|el|la|los|las|su|sus",
        joins=r"o|y|ni",
        ends=r"en|sobre|con|al|por|junto|bajo|tras|ante|que|está|están|es|son|durante",
        idioms=r"duda|fin|embargo|t[ií]tulo|hogar|techo|miedo|l[ií]mites?|fronteras|ti|m[ií]|ella|palabras|causa|"
        r"problemas?|igual|querer|sentido|salida|nombre|papeles|parar|amor|saber|mover|hablar|"
        r"camisa|camiseta|ropa|pantal[oó]n|pantalones|zapatos?|calcetines",
    ),
)

_CJK = r"[\u4e00-\u9fff]"
_CHINESE = (
    re.compile(rf"^(?P<before>{_CJK}*?)(?:没有?[戴穿带]着?|[没沒]有|不[戴穿带]|沒[戴穿帶])(?P<thing>(?:(?!的|没|不){_CJK}){{1,6}})的(?P<kept>{_CJK}+)$"),
    re.compile(rf"^(?P<kept>{_CJK}{{2,}}?)[，,]?(?:[没沒]有|[没沒][戴穿带帶])(?P<thing>(?:(?!的|没|不){_CJK}){{1,6}})$"),
    re.compile(rf"^(?P<before>{_CJK}*?)无(?P<thing>人)的(?P<kept>{_CJK}+)$"),
)  # fmt: skip
_CHINESE_IDIOMS = re.compile(
    r"问题|關係|关系|办法|意思|什么|怎么|希望|可能|必要|人性|衣|裤|褲|鞋|袜|襪|好|用|错|事|完|想|看|到"
)


def split_negation(text: str) -> Negation:
    """Split a sentence into what it wants and what it says is not there.

    English, German, French, Spanish and Chinese are read.

    Args:
        text: Such as `a dog without a leash`.

    Returns:
        What is kept, `a dog`, and what is taken away, `leash`. Where nothing is negated for certain, the text as it is
        and nothing.
    """
    if not may_negate(text):
        return Negation(text, ())
    words = " ".join(text.split()).rstrip(".!。！")
    if found := _split_chinese(words):
        return found
    for language, pattern in _patterns():
        if found := _split(words, language, pattern):
            return found
    return Negation(text, ())


def negated_query(kept: str, taken_away: Sequence[str]) -> Query:
    """Return the query that a sentence means which says what is not there.

    Args:
        kept: What is wanted, as of `split_negation`.
        taken_away: What is not.

    Returns:
        Such as `"a dog" - 0.5:"leash"`.
    """
    query = 1 * Text(kept)
    for each in taken_away:
        query -= WEIGHT * Text(each)
    return query


def _split(words: str, language: _Language, pattern: re.Pattern[str]) -> Negation | None:
    match = pattern.match(words)
    if match is None:
        return None
    things = [
        re.sub(rf"^(?:(?:{language.lacks})\s+)?(?:(?:{language.article})\s+)?", "", each.strip(), flags=re.IGNORECASE)
        for each in re.split(rf"\s(?:{language.joins})\s", match["things"])
    ]
    most = 1 if match["rest"][:1] == " " else _MAX_WORDS  # of two words before more the second may be a verb
    is_thing = all(each and len(each.split()) <= most for each in things)
    is_idiom = any(re.match(rf"(?:{language.idioms})\b", each, re.IGNORECASE) for each in things)
    if not is_thing or is_idiom or not re.search(r"[^\W\d_]{2}", match["kept"]):
        return None
    kept = match["kept"].strip(" ,;")
    if pattern.match(kept + match["rest"]):
        more = _split(kept + match["rest"], language, pattern)
        return Negation(more.kept, (*things, *more.taken_away)) if more else None
    return Negation(f"{kept} {match['rest'].strip(' ,;')}".strip(), tuple(things))


def _compiled(language: _Language) -> re.Pattern[str]:
    # Without this exclusion an article could match twice, and matching would take exponential time.
    word = rf"(?!(?:{language.ends}|{language.article})\b)[\w'’-]+"
    thing = rf"(?:(?:{language.article})\s+)?{word}(?:\s(?!(?:{language.joins})\s){word}){{0,{_MAX_WORDS - 1}}}"
    but, comma = language.but, r"\s*[,;]\s*"
    lacks = rf"(?:{comma}|\s)(?:(?:{but})\s)?(?:{language.lacks})"
    none = rf"(?:{comma}(?:(?:{but})\s)?|\s(?:{but})\s)(?:{language.none})"
    return re.compile(
        rf"(?P<kept>.+?)(?:{lacks}|{none})(?:\s|(?<=['’]))(?P<things>{thing}(?:\s(?:{language.joins})\s{thing})*)"
        rf"(?P<rest>$|[,;].*|\s(?:{language.ends})\b.*)",
        re.IGNORECASE,
    )


def _split_chinese(words: str) -> Negation | None:
    for pattern in _CHINESE:
        match = pattern.match(words)
        if match is not None and not _CHINESE_IDIOMS.search(match["thing"]):
            before = match.groupdict().get("before") or ""
            return Negation(before + match["kept"], tuple(re.split("[和与與或跟]", match["thing"])))
    return None


@functools.cache
def _patterns() -> tuple[tuple[_Language, re.Pattern[str]], ...]:
    return tuple((each, _compiled(each)) for each in _LANGUAGES)
