"""Names in Chinese words, which no spaces set apart: they count between particles, as in "X的Y" and "在X拍"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from clipsearch.query.understanding.names import Known, Named
from clipsearch.query.understanding.runs import Run
from clipsearch.query.understanding.vocabulary import CHINESE_MAKERS
from clipsearch.words import fold_tag

_LEFT, _RIGHT = frozenset("和跟与與在用去到于於从從给是的"), frozenset("的在拍和与與跟去")
_WITH = frozenset("和跟与與")
_SCENES = tuple(
    "夜景 街景 街头 街頭 街道 风景 風景 风光 風光 雪景 日出 日落 海滩 海灘 海边 海邊 夜市 樱花 櫻花 红叶 紅葉 "
    "旅行 旅游 旅遊 之旅 度假 极光 極光 山水 老街 古镇 古鎮 雪山 沙漠 海岸 教堂 寺庙 寺廟".split()
)
"""After a place, what is seen there."""
_ACTS = tuple(
    "一起 一块 吃 喝 玩 看 过 過 拍 旅 度假 滑雪 滑冰 游泳 游玩 跑步 爬山 登山 "
    "散步 骑 騎 潜水 潛水 冲浪 衝浪 露营 露營 跳舞 唱歌".split()
)
"""After "in" or "to" and a place, or "with" and a person: what somebody does there, or with them."""
_DOES = _ACTS + tuple(
    "做 包饺子 包餃子 钓鱼 釣魚 睡觉 睡覺 抱着 抱著 切 踢球 踢足球 打球 "
    "打电话 打電話 弹琴 彈琴 弹钢琴 彈鋼琴 画画 畫畫".split()
)
"""After a person at the beginning: what they do."""

_FAMILY = frozenset(
    "爸爸 妈妈 爷爷 奶奶 外公 外婆 姥姥 姥爷 哥哥 姐姐 弟弟 妹妹".split()
    + "叔叔 阿姨 舅舅 姑姑 姑妈 伯伯 老公 老婆 儿子 女儿".split()
)
_SURNAMES = frozenset("王李张張刘劉陈陳杨楊赵趙吴吳徐孙孫郭邓鄧曹彭蒋蔣蔡魏薛")
_WORDS = frozenset(
    "王子 王国 王冠 王朝 王宫 王后 王位 李子 杨树 杨梅 杨桃 陈列 陈酒 陈醋 张望 张口 孙子 孙女 吴哥".split()
)
"""Words that begin with one of _SURNAMES but are not names."""
_CALLED = frozenset("小老阿")
"""Before one more character they make the name of a person, unless that is one of _NOUNS."""
_NOUNS = frozenset(
    "狗猫河孩路鸟鱼吃镇屋船车花草溪山桥店巷虎鼠鹰师人板家乡街房城树牛马羊猪鸡鸭兔熊象猴蛇龙龟虫木岛湖池塘楼径学院姨姐妹"
)


def find_east_asian(runs: Sequence[Run], known: Known, text: str) -> list[Named]:
    """Return the places and people that runs of characters of a text name, none of which overlap."""
    likely = [run for run in runs if run.is_east_asian and len(run.words) > 1 and _is_apart(run, text)]
    people = [run for run in likely if _is_person(run)]
    tags = known.tags({fold_tag(run.text) for run in people})
    found: list[Named] = []
    for run in sorted(likely, key=lambda run: (-len(run.words), run.words[0].start)):
        if any(each.start < run.words[-1].end and run.words[0].start < each.end for each in found):
            continue
        if run in people and fold_tag(run.text) in tags:
            found.append(Named(run.words[0].start, run.words[-1].end, "tag", run.text))
        elif known.places(run.text):
            found.append(Named(run.words[0].start, run.words[-1].end, "place", run.text))
    return found


def find_makers(text: str) -> list[tuple[int, int, str]]:
    """Return where a text says by whose camera something was taken, and what stands there."""
    return [(match.start(), match.end(), match["maker"] or match["own"]) for match in _taken_by().finditer(text)]


def _is_apart(run: Run, text: str) -> bool:
    left, right = run.before, run.after
    is_left = left is None or left.text in _LEFT or not left.is_east_asian or run.words[0].gap != ""
    is_right = right is None or right.text in _RIGHT or not right.is_east_asian or right.gap != ""
    acts = _ACTS if left is not None and left.text in _WITH | {"在", "去", "到"} else ()
    acts = _DOES if left is None and _is_person(run) else acts
    return is_left and (is_right or text.startswith((*_SCENES, *acts), run.words[-1].end))


def _is_person(run: Run) -> bool:
    name = run.text
    if name in _FAMILY or (run.before is not None and run.before.text in _WITH):
        return True
    if name[0] in _SURNAMES and len(name) in (2, 3) and name not in _WORDS:
        return True
    return len(name) == 2 and name[0] in _CALLED and name[1] not in _NOUNS


@cache
def _taken_by() -> re.Pattern[str]:
    makers = "|".join(CHINESE_MAKERS)
    device = "(?:手[机機]|相[机機])"
    by = rf"用(?:我的?)?(?P<maker>{makers}|[A-Za-z][\w -]{{1,30}}?)的?{device}?"
    own = rf"(?P<own>{makers})(?:{device}|(?=拍[摄攝照]?的))"
    return re.compile(rf"(?:{by}|{own})拍(?:摄|攝|照)?的?")
