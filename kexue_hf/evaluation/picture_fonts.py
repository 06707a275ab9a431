"""Fonts with which matplotlib can draw texts, including Chinese ones."""

from collections.abc import Iterable

# matplotlib's own font has no Chinese characters; most machines of Chinese readers have one of these fonts.
_CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)


def fonts_for(texts: Iterable[str]) -> tuple[list[str], bool]:
    """Return the installed fonts to draw with, and whether they have all characters of the texts."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _CHINESE if font in installed)]
    known: set[int] = set()
    for font in fonts:
        known |= font_manager.get_font(font_manager.findfont(font)).get_charmap().keys()
    return fonts, all(ord(character) in known for text in texts for character in text)


__all__ = ["fonts_for"]
