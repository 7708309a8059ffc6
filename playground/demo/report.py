"""The report: one line for each thing that was shown, with a mark that says whether it really happened."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


class Report:
    """Prints as it goes, in colour on a terminal; remembers whether everything held."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.failed: list[str] = []

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, "bold"))

    def line(self, text: str) -> None:
        self.console.print(Text(f"  {text}", "dim"))

    def check(self, held: bool, what: str, detail: str = "") -> None:
        if not held:
            self.failed.append(what)
        mark = Text("  ✓ " if held else "  ✗ ", "green" if held else "bold red")
        if not self.console.encoding.lower().startswith("utf"):
            mark = Text("  ok   " if held else "  FAIL ", "green" if held else "bold red")
        self.console.print(mark + Text(what) + Text(f"  {detail}" if detail else "", "dim"))
