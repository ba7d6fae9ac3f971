"""Makes docs/overview.jpg from samples/coffee.siren: python3 scripts/overview.py SIRENC
(needs Pillow; SIRENC is the binary, target/release/sirenc by default)."""

import subprocess
import sys
import tempfile

from PIL import Image

sirenc = sys.argv[1] if len(sys.argv) > 1 else "target/release/sirenc"
renders = [
    [],
    ["--crop", "160,15,150,100", "--scale", "4"],
    ["--derivative", "gradient"],
]
cells = [Image.open("samples/coffee.png").convert("RGB")]
with tempfile.TemporaryDirectory() as directory:
    for options in renders:
        out = directory + "/render.png"
        subprocess.run([sirenc, "decode", "samples/coffee.siren", *options, "-o", out], check=True)
        cells.append(Image.open(out).convert("RGB").copy())
width, height = 300, 200
sheet = Image.new("RGB", (4 * width + 3 * 8, height), "white")
for i, cell in enumerate(cells):
    sheet.paste(cell.resize((width, height), Image.LANCZOS), (i * (width + 8), 0))
sheet.save("docs/overview.jpg", quality=92)
