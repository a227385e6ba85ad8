"""A live display that knows of a terminal that has become narrower."""

from collections.abc import Sequence

from rich.console import Console, ConsoleRenderable, RenderableType
from rich.live import Live
from rich.segment import Segment


class Redrawn(Live):
    """Erases all of its last picture, whose lines a narrower terminal has broken into more rows.

    Rich counts the lines that it has written, and leaves the rows above them where they are.
    """

    _width = 0  # of the last picture

    def process_renderables(
        self, renderables: "Sequence[ConsoleRenderable]"
    ) -> list[ConsoleRenderable]:
        """What is to be written; rich calls it for each picture."""
        before, self._width = self._width, self.console.width
        if self._width < before and self._live_render.last_render_height:
            shown = rows(self.console, self._live_render.renderable, before, self._width)
            self._live_render._shape = self._width, shown
        return super().process_renderables(list(renderables))


def rows(console: Console, picture: RenderableType, before: int, now: int) -> int:
    """The rows of a terminal `now` wide that the lines of a picture take, drawn `before` wide."""
    lines = console.render_lines(picture, console.options.update(width=before), pad=False)
    return sum(max(1, -(-Segment.get_line_length(line) // now)) for line in lines)
