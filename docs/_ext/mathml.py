"""Formulas as MathML, which browsers draw themselves: no script, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

#: Quotients in running text and absolute values are set tight.
TIGHT = re.compile(r"<mo([^>]*)>([/|])</mo>")

#: An accented letter before an index, which docutils would put below the letter; in a row with nothing, it does not.
ACCENTED = re.compile(r"(\\(?:wide)?(?:hat|bar|tilde|dot|overline)\s*(?:\{[^{}]*\}|\\[A-Za-z]+|[A-Za-z]))(?=_)")

logger = logging.getLogger(__name__)


def mathml(node: nodes.Element, *, as_block: bool) -> str:
    """Translate a formula; one that cannot be translated is a warning and stays as it is."""
    try:
        text = tex2mathml(ACCENTED.sub(r"{{}\1}", node.astext()), as_block=as_block)
    except MathError as error:
        logger.warning("cannot write %r as MathML: %s", node.astext(), error, location=node, type="mathml")
        return f"<code>{node.astext()}</code>"
    return TIGHT.sub(r'<mo\1 lspace="0" rspace="0">\2</mo>', text)


def inline(translator: Any, node: nodes.Element) -> None:
    """Write a formula of the running text."""
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.Element) -> None:
    """Write a displayed formula."""
    translator.body.append(f'<div class="math notranslate nohighlight">{mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name that `html_math_renderer` uses."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
