"""Make stix-two-math.woff2: the glyphs that the book's equations use, from the font of an npm package.

    npm pack @fontsource/stix-two-math && tar xzf fontsource-stix-two-math-*.tgz
    python docs/_static/fonts/subset.py package/files/stix-two-math-latin-400-normal.woff2 docs/_build

It needs fonttools and brotli.  The OpenType MATH table keeps the larger variants and the pieces of stretchy signs.
Letters and Greek are all kept, upright and italic, so that a new equation rarely needs a new font.
"""
import html
import re
import string
import sys
from pathlib import Path

from fontTools import subset

OUT = Path(__file__).with_name("stix-two-math.woff2")
GREEK = "".join(map(chr, [*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3CA), *range(0x3D1, 0x3D7)]))
ITALIC = "".join(map(chr, [*range(0x1D434, 0x1D455), *range(0x1D456, 0x1D468), *range(0x1D6E2, 0x1D71C)])) + "\u210e"
SIGNS = "−×÷·±√∑∏∫∂∇∞∈∉⊂∪∩∅∘⊙⊕⊗≤≥≠≈≡≪≫→←↔↦⇒∥‖⌊⌋⌈⌉⟨⟩…⋯⋮⋱′″‾ˆ˜¯^~∀∃¬∧∨"  # noqa: RUF001
ALWAYS = string.printable + GREEK + ITALIC + SIGNS


def read_characters(folder):
    """The set of characters in the equations of the pages in a folder."""
    found = set()
    for page in Path(folder).rglob("*.html"):
        for equation in re.findall(r"<math.*?</math>", page.read_text(encoding="utf-8"), re.DOTALL):
            found |= set(html.unescape(re.sub("<[^>]*>", "", equation)))
    return found


def main(font, folder):
    options = subset.Options(flavor="woff2", hinting=False, notdef_outline=True, glyph_names=False,
                             layout_features=["ssty", "dtls", "flac"])
    loaded = subset.load_font(font, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=ALWAYS + "".join(read_characters(folder)))
    subsetter.subset(loaded)
    subset.save_font(loaded, OUT, options)
    print(f"{OUT.name}: {OUT.stat().st_size:,} bytes, {len(loaded.getGlyphOrder())} glyphs")


if __name__ == "__main__":
    main(*sys.argv[1:])
