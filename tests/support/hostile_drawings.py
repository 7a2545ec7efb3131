"""A small SVG and a small PDF that never come to an end."""

from __future__ import annotations

SVG_OF_MASKS = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'>"
    "<mask id='m0'><rect width='9' height='9' fill='white'/></mask>"
    + "".join(
        f"<mask id='m{level}'>"
        + f"<rect width='9' height='9' fill='white' mask='url(#m{level - 1})'/>" * 10
        + "</mask>"
        for level in range(1, 9)
    )
    + "<rect width='9' height='9' mask='url(#m8)'/></svg>"
).encode()
"""Masks that are each drawn ten times by the next one."""

SVG_OF_NOISE = (
    b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><filter id='f' x='0' y='0' width='1' height='1'>"
    b"<feTurbulence numOctaves='9999' baseFrequency='.5'/></filter>"
    b"<rect width='9' height='9' fill='red' filter='url(#f)'/></svg>"
)
"""Noise of ten thousand octaves."""


def pdf_of_forms(levels: int = 5, times: int = 14) -> bytes:
    """Return a PDF of one page, in which each form draws another one so many times."""

    def stream(head: bytes, drawn: bytes) -> bytes:
        return b"<<%s/Length %d>>stream\n%s\nendstream" % (head, len(drawn), drawn)

    form = b"/Type/XObject/Subtype/Form/BBox[0 0 200 200]/Resources<<%s>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</XObject<</F %d 0 R>>>>>>"
        % (5 + levels),
        stream(b"", b"/F Do"),
        stream(form % b"", b"0 0 200 200 re f"),
        *(stream(form % (b"/XObject<</F %d 0 R>>" % (5 + level)), b"/F Do " * times) for level in range(levels)),
    ]
    data, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj" % number + each + b"endobj\n"
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n" % size + b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (size, len(data))
