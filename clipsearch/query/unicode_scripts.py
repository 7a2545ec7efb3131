"""Whether an encoder reads the letters of a query: measured on its tokenizer, not declared.

A tokenizer that learnt a language cuts its words into pieces; one that did not spells them out, in letters, bytes or
unknown tokens. Only scripts other than Latin are looked at: there the two lie far apart, by SPELT_OUT.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.languages import best_preset
from clipsearch.encoders.names import switch_command

SPELT_OUT = 0.88
"""Tokens a letter of a sample. Measured: 0.95 and more of CLIP, which reads English; 0.81 and less of the tokenizer of
SigLIP2, which reads all of these. English has 0.29 in both. The builtin encoder knows its scripts, and says 0 or 1."""

_LONG = 20
"""Letters of a word that are shown; a text without spaces is one word."""

_FIRST = "\u0370"
"""No letter below is in any of them."""


class Script(NamedTuple):
    """name: as a sentence has it. spans: first and last letters, in pairs. sample: a plain sentence, in `language`."""

    name: str
    spans: str
    sample: str
    language: str

    def find_words(self, text: str) -> list[str]:
        """Return the words of a text that are in this script.

        A single letter is a sign, as in formulas and in faces; in Chinese it is a word.
        """
        runs = ("".join(run) for inside, run in groupby(text, self._holds) if inside)
        return [run for run in runs if len(run) > 1 or self.spans.startswith("\u3400")]

    def _holds(self, letter: str) -> bool:
        return any(first <= letter <= last for first, last in zip(self.spans[::2], self.spans[1::2], strict=True))


# A cat sleeps on the sofa in front of the window, and children play with a ball on the beach.
SCRIPTS = (
    Script(
        "Chinese characters", "\u3400\u9fff\U00020000\U0003134f", "一只猫在窗前的沙发上睡觉，孩子们在海滩上玩球", "zh"
    ),
    Script("Japanese kana", "ぁゖァヺーー", "ねこがソファーのうえでねています。こどもたちはうみであそびます", "ja"),
    Script("Korean letters", "가힣", "고양이가 창문 앞 소파에서 자고 아이들이 해변에서 공놀이를 한다", "ko"),
    Script("Cyrillic letters", "\u0400\u052f", "кошка спит на диване перед окном, дети играют в мяч на пляже", "ru"),
    Script(
        "Greek letters",
        "\u0370\u03ff\u1f00\u1fff",
        "η γάτα κοιμάται στον καναπέ μπροστά στο παράθυρο, παιδιά παίζουν στην παραλία",
        "el",
    ),
    Script(
        "Arabic letters", "\u0620\u06ff", "القطة نائمة على الأريكة أمام النافذة والأطفال يلعبون بالكرة على الشاطئ", "ar"
    ),
    Script("Hebrew letters", "\u05d0\u05ea", "החתול ישן על הספה מול החלון והילדים משחקים בכדור על החוף", "he"),
    Script("Thai letters", "\u0e01\u0e4e", "แมวนอนบนโซฟาหน้าหน้าต่าง เด็กๆ เล่นบอลบนชายหาด", "th"),
    Script(
        "Devanagari letters", "\u0900\u097f", "बिल्ली खिड़की के सामने सोफे पर सो रही है और बच्चे समुद्र तट पर गेंद खेल रहे हैं", "hi"
    ),
    Script("Bengali letters", "\u0980\u09ff", "বিড়াল জানালার সামনে সোফায় ঘুমাচ্ছে এবং শিশুরা সৈকতে বল খেলছে", "bn"),
    Script("Tamil letters", "\u0b80\u0bff", "பூனை சோபாவில் தூங்குகிறது குழந்தைகள் கடற்கரையில் பந்து விளையாடுகிறார்கள்", "ta"),
    Script("Georgian letters", "\u10a0\u10ff", "კატას სძინავს დივანზე ფანჯრის წინ, ბავშვები თამაშობენ ბურთით", "ka"),
    Script(
        "Armenian letters",
        "\u0531\u0587",
        "կատուն քնում է բազմոցի վրա պատուհանի դիմաց, երեխաները գնդակ են խաղում",
        "hy",
    ),
)


def explain_unread(text: str, encoder: Encoder) -> tuple[str, ...]:
    """Say which words of a text are in scripts that an encoder does not read; nothing where it reads all."""
    if max(text) < _FIRST:
        return ()
    found = [(script, words[0]) for script in SCRIPTS if (words := script.find_words(text))]
    unread = [(script, word) for script, word in found if encoder.tokens_per_letter(script.sample) >= SPELT_OUT]
    if not unread:
        return ()
    listed = " and ".join(f"{_cut(word)} ({script.name})" for script, word in unread)
    remedy = _advise([script.language for script, _ in unread])
    return (f"{encoder.name} does not read {listed}, so matches by meaning are random. {remedy}",)


def _advise(languages: list[str]) -> str:
    preset = best_preset(languages)
    if preset is None:
        return "No preset is known to read this well. To see what each reads: clipsearch models"
    return f"To use an encoder that does: {switch_command(preset)}"


def _cut(word: str) -> str:
    return word if len(word) <= _LONG else word[: _LONG - 1] + "…"
