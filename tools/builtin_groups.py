"""Everyday words for groups of ImageNet classes, written by hand: what people type when they do not know the kind.

A group is named by ranges of class numbers (both ends included) in the usual order of the 1,000 classes, or by the
first name of single classes.
"""

from __future__ import annotations

GROUPS: dict[str, list[tuple[int, int] | str]] = {
    "fish": [(0, 6), (389, 397)],
    "shark": [(2, 4)],
    "bird": [(7, 24), (80, 100), (127, 146)],
    "owl": ["great grey owl"],
    "duck": [(97, 99)],
    "parrot": [(87, 90)],
    "frog": [(30, 32)],
    "turtle": [(33, 37)],
    "lizard": [(38, 48)],
    "crocodile": [(49, 50)],
    "snake": [(52, 68)],
    "spider": [(72, 77)],
    "crab": [(118, 121)],
    "whale": [(147, 148)],
    "dog": [(151, 268)],
    "puppy": [(151, 268)],
    "wolf": [(269, 272)],
    "fox": [(277, 280)],
    "cat": [(281, 285)],
    "kitten": [(281, 285)],
    "big cat": [(286, 293)],
    "bear": [(294, 297)],
    "insect": [(300, 326)],
    "beetle": [(300, 307)],
    "butterfly": [(321, 326)],
    "rabbit": [(330, 332)],
    "horse": [(339, 339)],
    "pig": [(341, 343)],
    "cow": [(345, 347)],
    "sheep": [(348, 349)],
    "deer": [(351, 353)],
    "monkey": [(370, 382)],
    "ape": [(365, 369)],
    "elephant": [(385, 386)],
    "panda": [(387, 388)],
    "animal": [(0, 397)],
    "airplane": ["airliner", "warplane", "wing"],
    "boat": ["canoe", "catamaran", "fireboat", "gondola", "lifeboat", "schooner", "speedboat", "trimaran", "yawl"],
    "ship": ["container ship", "liner", "pirate", "aircraft carrier", "wreck", "schooner"],
    "car": ["beach wagon", "cab", "convertible", "jeep", "limousine", "minivan", "Model T", "racer", "sports car"],
    "truck": ["fire engine", "garbage truck", "moving van", "pickup", "tow truck", "trailer truck"],
    "bus": ["minibus", "school bus", "trolleybus"],
    "train": ["bullet train", "steam locomotive", "electric locomotive", "freight car", "passenger car"],
    "bicycle": ["mountain bike", "bicycle-built-for-two", "tricycle", "unicycle"],
    "motorcycle": ["moped", "motor scooter"],
    "rocket": ["missile", "projectile", "space shuttle"],
    "building": ["barn", "castle", "church", "library", "monastery", "mosque", "palace", "cinema", "restaurant"],
    "temple": ["stupa", "monastery", "mosque"],
    "house": ["mobile home", "boathouse", "barn", "patio"],
    "tower": ["beacon", "bell cote", "obelisk", "water tower"],
    "bridge": ["steel arch bridge", "suspension bridge", "viaduct"],
    "chair": ["barber chair", "folding chair", "rocking chair", "throne"],
    "table": ["dining table", "desk", "pool table"],
    "bed": ["four-poster", "crib", "cradle", "bassinet", "studio couch"],
    "sofa": ["studio couch"],
    "lamp": ["table lamp", "lampshade", "spotlight", "torch", "candle"],
    "clock": ["analog clock", "digital clock", "wall clock"],
    "computer": ["desktop computer", "laptop", "notebook", "hand-held computer", "screen", "monitor"],
    "telephone": ["cellular telephone", "dial telephone", "pay-phone"],
    "camera": ["Polaroid camera", "reflex camera"],
    "guitar": ["acoustic guitar", "electric guitar", "banjo"],
    "drum": ["drum", "steel drum"],
    "musical instrument": ["accordion", "cello", "flute", "grand piano", "harp", "sax", "trombone", "violin", "drum"],
    "ball": ["basketball", "soccer ball", "tennis ball", "volleyball", "rugby ball", "golf ball", "baseball"],
    "hat": ["bonnet", "cowboy hat", "sombrero", "bearskin"],
    "shoes": ["clog", "Loafer", "running shoe", "sandal", "cowboy boot"],
    "dress": ["gown", "hoopskirt", "overskirt", "miniskirt"],
    "sunglasses": ["sunglass", "sunglasses"],
    "helmet": ["crash helmet", "football helmet"],
    "food": [(924, 936), (959, 965)],
    "fruit": [(948, 957)],
    "vegetable": [(936, 945)],
    "bread": ["French loaf", "bagel", "pretzel"],
    "drink": ["espresso", "red wine", "eggnog", "beer glass"],
    "coffee": ["espresso", "espresso maker", "coffeepot", "coffee mug"],
    "cup": ["cup", "coffee mug"],
    "bottle": ["beer bottle", "pop bottle", "water bottle", "wine bottle"],
    "flower": ["daisy", "yellow lady's slipper", "pot"],
    "mushroom": ["agaric", "bolete", "gyromitra", "hen-of-the-woods", "mushroom", "stinkhorn", "earthstar"],
    "mountain": ["alp", "volcano", "cliff", "valley"],
    "beach": ["seashore", "sandbar"],
    "sea": ["seashore", "promontory", "breakwater", "sandbar"],
    "lake": ["lakeside", "dam"],
    "rocks": ["cliff", "stone wall", "promontory"],
    "snow": ["snowmobile", "snowplow", "ski", "dogsled", "alp"],
    "swimming": ["swimming trunks", "bikini", "maillot", "snorkel", "bathing cap"],
    "wall": ["stone wall"],
    "gun": ["assault rifle", "rifle", "revolver"],
    "tool": ["hammer", "screwdriver", "power drill", "plane", "plunger", "shovel"],
    "book": ["comic book", "book jacket", "binder", "menu"],
    "document": ["crossword puzzle", "menu", "envelope", "web site"],
    "man in a suit": ["suit", "Windsor tie", "groom"],
    "soldier": ["military uniform", "bulletproof vest", "assault rifle"],
}


def members(names: list[str]) -> dict[str, list[int]]:
    """Return the class numbers of each group. names: of the 1,000 classes, synonyms after commas."""
    first = {name.split(", ")[0]: index for index, name in reversed(list(enumerate(names)))}
    return {
        word: sorted(
            {
                index
                for part in parts
                for index in (range(part[0], part[1] + 1) if isinstance(part, tuple) else [first[part]])
            }
        )
        for word, parts in GROUPS.items()
    }
