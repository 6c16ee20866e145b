"""Make the pictures of this folder: pages of the demo's swap, read by Chromium.

pip install playwright numpy pillow   # and Debian's package chromium
python docs/pictures/make.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "configs" / "unetpp_bra.yaml"
# name of the picture: page, width, height, colours, place
PICTURES = {
    "page.png": ("swap.html", 1280, 900, "light", ""),
    "page-dark.png": ("swap.html", 1280, 900, "dark", ""),
    "page-narrow.png": ("swap.html", 390, 1500, "light", ""),
    "page-modules.png": ("swap.html", 1280, 760, "light", "#trees"),
    "page-healing.png": ("heal.html", 1280, 900, "light", "#healing"),
    "page-diff.png": ("diff.html", 1280, 760, "light", ""),
    "page-routing.png": ("routing.html", 1280, 860, "light", "#routing"),
}


def _modswap(folder: Path, line: str) -> None:
    command = [sys.executable, "-m", "modswap", *line.split()]
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 - lines of this file


def _pages(folder: Path) -> None:
    """Write the pages of a trained network, its swap and its healing."""
    shutil.copy(RECIPE, folder / "swap.yaml")
    _modswap(folder, "demo demo --quiet")
    for name in ("unetpp.pt", "scenes.npy"):
        shutil.copy(folder / "demo" / name, folder)
    html = "--format html --report"
    _modswap(folder, f"replace unetpp.pt -c swap.yaml -o swapped.pt {html} swap.html")
    heal = "heal swapped.pt --against unetpp.pt --data scenes.npy --stages closed"
    _modswap(folder, f"{heal} --samples 256 -o healed.pt {html} heal.html")
    _modswap(folder, f"diff unetpp.pt healed.pt {html} diff.html")
    _scene(folder)
    explain = "explain healed.pt:space_attention --image scene.png --no-time"
    _modswap(folder, f"{explain} {html} routing.html")


def _scene(folder: Path) -> None:
    """Write a scene of the demo as a picture."""
    scene = np.load(folder / "scenes.npy")[3].transpose(1, 2, 0)
    pixels = (scene * 255).clip(0, 255).astype("uint8")
    Image.fromarray(pixels).resize((448, 448)).save(folder / "scene.png")


def _take(browser: Browser, folder: Path, name: str) -> None:
    page_name, width, height, colours, place = PICTURES[name]
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, color_scheme=colours, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{(folder / page_name).as_uri()}{place}")
    page.screenshot(path=HERE / name)
    context.close()


def main() -> None:
    """Make all pictures anew."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as started:
        folder = Path(name)
        _pages(folder)
        program = shutil.which("chromium")
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for picture in PICTURES:
            _take(browser, folder, picture)
        browser.close()


if __name__ == "__main__":
    main()
