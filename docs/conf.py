"""How the walkthrough is built: sphinx-build -W --keep-going -b html docs docs/_build

A built page makes no network request: equations are MathML in a font of the book, text is in the reader's fonts, and
scripts and style sheets are local files.  tests/test_docs.py checks that, and tests/test_pages.py in a browser.
"""
import importlib.util
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS)]       # DOCS for the package `drawings`
if importlib.util.find_spec("tinyscout") is None:   # not installed: the page is built from the source tree
    sys.path.insert(0, str(DOCS.parent))

project = "tinyscout"
author = "the tinyscout authors"
copyright = "the tinyscout authors"                 # without a year the same source makes the same page

extensions = [
    "myst_parser",
    "tree",         # docs/_ext
    "sphinx.ext.extlinks",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "bibliography",     # this and those below: docs/_ext
    "mathml",
    "api",
    "compute",
    "columns",
    "drawing",
    "reading",
    "mutants",
    "search",
]
myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_ext", "_static", "drawings", "**/sg_execution_times.rst", "sg_execution_times.rst"]

extlinks = {    # {vllm}`16311` is shown as vllm #16311; GitHub leads from an issue's address to a pull request's
    role: (f"https://github.com/{repository}/issues/%s", f"{repository.partition('/')[2]} #%s")
    for role, repository in {
        "kernelbench": "ScalingIntelligence/KernelBench", "llamacpp": "ggml-org/llama.cpp",
        "llmcompressor": "vllm-project/llm-compressor", "maxtext": "AI-Hypercomputer/maxtext",
        "mlxlm": "ml-explore/mlx-lm", "mlxvlm": "Blaizzy/mlx-vlm", "sglang": "sgl-project/sglang",
        "smg": "smg-project/smg", "transformers": "huggingface/transformers", "trtllm": "NVIDIA/TensorRT-LLM",
        "vllm": "vllm-project/vllm"}.items()}

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True            # ops=reference rather than where that module is
maximum_signature_line_length = 88          # a longer signature has a line for each argument
python_use_unqualified_type_names = True
add_module_names = False
nitpicky = True                             # a name of ours in a signature has to be documented
nitpick_ignore_regex = [("py:.*", r"(?!tinyscout\.).*")]
intersphinx_mapping = {                     # docs/inventories.py writes the files, which need no network
    "python": ("https://docs.python.org/3/", "inventories/python.txt"),
    "numpy": ("https://numpy.org/doc/stable/", "inventories/numpy.txt"),
    "hypothesis": ("https://hypothesis.readthedocs.io/en/latest/", "inventories/hypothesis.txt")}

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "book"               # docs/_ext/bibliography.py
bibtex_reference_style = "book"

html_math_renderer = "mathml"       # the default, MathJax, is fetched from the network

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",                   # every example runs, and one that fails fails the build
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",   # 01, 02, 03: the order in which to read them
    "reset_modules": ("matplotlib", "figures.style"),
    "image_scrapers": ("figures.scrape",),
    "plot_gallery": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 3600,                      # seconds: no "total running time" under each example
    "write_computation_times": False,
    "remove_config_comments": True,
}

copybutton_selector = "[class*=highlight-]:not(.sphx-glr-script-out, .highlight-none, .highlight-text) > .highlight pre"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "      # where a block has prompts, only those lines are copied, without them
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

html_theme = "furo"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
html_title = "tinyscout"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["tinyscout.css", "pages.css"]
html_js_files = ["pages.js"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {              # every text has a contrast of at least 7:1; tests/test_pages.py measures it
    "light_css_variables": {
        "color-brand-primary": "#734100", "color-brand-content": "#734100", "color-brand-visited": "#6a1fb5",
        "color-foreground-secondary": "#3c3f45", "color-foreground-muted": "#464950", "color-problematic": "#8f0000",
        "color-link-underline": "#b07a35", "color-link-underline--visited": "#a67ad0", "color-topic-title": "#04505f",
    },
    "dark_css_variables": {
        "color-brand-primary": "#e8b25c", "color-brand-content": "#e8b25c", "color-brand-visited": "#d0b2f7",
        "color-foreground-secondary": "#b8bcc2", "color-foreground-muted": "#b8bcc2", "color-problematic": "#ffa8a8",
        "color-link-underline": "#8a6a36", "color-link-underline--visited": "#8a6fb0",
    },
}
