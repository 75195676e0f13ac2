"""How the walkthrough is built: sphinx-build -W --keep-going -b html docs docs/_build

A built page asks the network for nothing: mathematics is MathML, fonts are the reader's own, and every script and
style sheet lies beside the page.  tests/test_docs.py holds that.
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
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "bibliography",     # this and the four below: docs/_ext
    "mathml",
    "compute",
    "columns",
    "drawing",
    "reading",
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
    "plot_gallery": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 3600,                      # seconds: no "total running time" under each example
    "write_computation_times": False,
    "remove_config_comments": True,
}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "tinyscout"
html_static_path = ["_static"]
html_css_files = ["tinyscout.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#8a5200", "color-brand-content": "#8a5200"},
    "dark_css_variables": {"color-brand-primary": "#e8b25c", "color-brand-content": "#e8b25c"},
}
