"""The page itself: a Bokeh document on a `FitLog`, looked at twice a second."""

from __future__ import annotations

import functools
from html import escape
from typing import Any

from daskml_core.dashboard.log import ROUTE, FitLog, FitRecord

BLUE, ORANGE, GREEN, GREY, RED = "#2f6fb7", "#e8833a", "#3a9b6b", "#b8c0c8", "#cc3d3d"
EVERY_MS = 500

TEMPLATE = """
{% extends base %}
{% block title %}daskml_core on Dask{% endblock %}
{% block preamble %}
<style>
  body { margin: 0; background: #f6f7f9; font-family: system-ui, "Helvetica Neue", sans-serif; color: #22303c; }
  nav { background: #22303c; padding: 0 20px; height: 44px; display: flex; align-items: center; gap: 22px; }
  nav b { color: white; font-size: 16px; letter-spacing: 0.02em; }
  nav a { color: #c3ccd5; text-decoration: none; font-size: 14px; }
  nav a:hover { color: white; }
  main { padding: 12px 20px 24px; max-width: 1500px; margin: auto; }
</style>
{% endblock %}
{% block contents %}
<nav><b>daskml_core</b><a href="status">Status</a><a href="workers">Workers</a><a href="tasks">Tasks</a>
<a href="system">System</a><a href="profile">Profile</a><a href="graph">Graph</a><a href="info">Info</a></nav>
<main>{{ super() }}</main>
{% endblock %}
"""


def add_page(scheduler: Any, log: FitLog) -> bool:
    """Serve the page with a scheduler's dashboard; false where there is no dashboard, or no Bokeh."""
    application = getattr(scheduler, "http_application", None)
    if application is None:
        return False
    try:
        import dask
        from bokeh.application import Application
        from bokeh.application.handlers.function import FunctionHandler
        from bokeh.server.tornado import BokehTornado
        from bokeh.server.util import create_hosts_allowlist
        from tornado.ioloop import IOLoop
    except ImportError:
        return False
    dashboards = [app for app in application.applications if isinstance(app, BokehTornado)]
    if not dashboards:  # it has been turned off
        return False
    allowed = dask.config.get("distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin", ["*"])
    prefix = dashboards[0].prefix
    page = BokehTornado(
        {ROUTE: Application(FunctionHandler(functools.partial(document, log)))},
        prefix=prefix,
        extra_websocket_origins=create_hosts_allowlist(allowed, scheduler.http_server.port),
        absolute_url="",
        use_index=False,
        # As Dask's own pages: a tab that is closed is forgotten at once.
        check_unused_sessions_milliseconds=500,
        unused_session_lifetime_milliseconds=500,
    )
    application.add_application(page)
    page.initialize(IOLoop.current())
    page.start()
    return True


def document(log: FitLog, doc: Any) -> None:
    """Fill a document with the page of a log, and keep it up to date."""
    from jinja2 import Environment

    view = View(log)
    doc.title = "daskml_core on Dask"
    doc.template = Environment(autoescape=True).from_string(TEMPLATE)
    doc.add_root(view.layout)
    view.update()
    doc.add_periodic_callback(view.update, EVERY_MS)


def short_bytes(n: float) -> str:
    """A number of bytes for people.

    >>> short_bytes(3_250_000_000)
    '3.03 GiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.2f} {unit}" if unit == "GiB" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.2f} TiB"


def short_seconds(seconds: float) -> str:
    """Seconds for people.

    >>> short_seconds(3.21), short_seconds(7322)
    ('3.2 s', '2:02:02')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class View:
    """What one open tab shows."""

    def __init__(self, log: FitLog) -> None:
        from bokeh.layouts import column, row
        from bokeh.models import ColumnDataSource, DataRange1d
        from bokeh.models.widgets import Div, Select

        self._log, self._seen = log, (-1, "")
        newest: Any = [("", "the newest fit")]
        self.choice: Any = Select(title="", options=newest, value="", width=330)
        self.head = Div(text="", sizing_mode="stretch_width")
        self.foot = Div(text="", sizing_mode="stretch_width")
        self.losses = ColumnDataSource({"sweep": [], "loss": []})
        self.models = ColumnDataSource({"xs": [], "ys": []})
        self.criteria = ColumnDataSource({"sweep": [], "value": []})
        self.sweeps = ColumnDataSource(
            {name: [] for name in ("sweep", "kernels", "seconds", "rate", "read", "resident", "top", "colour")}
        )
        self.lost = ColumnDataSource({"sweep": [], "worker": []})
        self.running = ColumnDataSource({"sweep": [], "running": []})
        self.best = ColumnDataSource({"sweep": [], "score": [], "params": []})
        # The same sweep stands above itself, from figure to figure.
        self._x = DataRange1d(range_padding=0.5, range_padding_units="absolute")
        self.search = row(
            self._running_figure(), self._best_figure(), sizing_mode="stretch_width", spacing=12, visible=False
        )
        self.layout = column(
            row(self.choice, self.head, sizing_mode="stretch_width"),
            row(self._loss_figure(), self._criterion_figure(), sizing_mode="stretch_width", spacing=12),
            row(self._rate_figure(), self._residency_figure(), sizing_mode="stretch_width", spacing=12),
            self.search,
            self.foot,
            sizing_mode="stretch_width",
            spacing=12,
        )

    # -- figures -----------------------------------------------------------------------------------------------------

    def _figure(self, title: str, **options: Any) -> Any:
        from bokeh.models import BasicTicker
        from bokeh.plotting import figure

        p: Any = figure(
            title=title, height=230, sizing_mode="stretch_width", tools="hover,pan,xwheel_zoom,reset",
            toolbar_location="right", min_border=12, border_fill_color="white", x_range=self._x, **options,
        )  # fmt: skip
        p.toolbar.autohide = True
        p.title.text_font_size, p.title.text_color = "13px", "#22303c"
        p.outline_line_color, p.background_fill_color = None, "white"
        p.grid.grid_line_color, p.xgrid.grid_line_color = "#e9edf0", None
        p.axis.axis_line_color, p.axis.major_tick_line_color, p.axis.minor_tick_line_color = "#b8c0c8", "#b8c0c8", None
        p.axis.major_label_text_color = p.axis.axis_label_text_color = "#5b6873"
        p.axis.axis_label_text_font_size, p.axis.axis_label_text_font_style = "11px", "normal"
        p.xaxis.axis_label = "sweep"
        p.xaxis.ticker = BasicTicker(min_interval=1)
        return p

    def _mark_lost(self, p: Any) -> None:
        from bokeh.models import VSpan

        p.add_glyph(self.lost, VSpan(x="sweep", line_color=RED, line_dash="dashed", line_width=1.5))

    def _loss_figure(self) -> Any:
        p = self._figure("Loss")
        p.multi_line("xs", "ys", source=self.models, color=GREY, alpha=0.6)
        line = p.line("sweep", "loss", source=self.losses, color=BLUE, line_width=2)
        p.scatter("sweep", "loss", source=self.losses, color=BLUE, size=5)
        p.hover.renderers, p.hover.tooltips = [line], [("sweep", "@sweep"), ("loss", "@loss{0.000000}")]
        p.hover.mode = "vline"
        self._mark_lost(p)
        return p

    def _criterion_figure(self) -> Any:
        from bokeh.models.annotations import Span

        p = self._figure("What the solver stops at", y_axis_type="log")
        line = p.line("sweep", "value", source=self.criteria, color=ORANGE, line_width=2)
        p.scatter("sweep", "value", source=self.criteria, color=ORANGE, size=5)
        p.hover.renderers, p.hover.tooltips = [line], [("sweep", "@sweep"), ("value", "@value{0.00e+0}")]
        p.hover.mode = "vline"
        self.target = Span(dimension="width", line_color=GREEN, line_dash="dashed", line_width=1.5, visible=False)
        p.add_layout(self.target)
        self._criterion_title = p.title
        return p

    def _rate_figure(self) -> Any:
        from bokeh.models import CustomJSTickFormatter

        p = self._figure("Throughput")
        bars = p.vbar("sweep", top="rate", width=0.8, source=self.sweeps, color="colour")
        p.hover.renderers = [bars]
        p.hover.tooltips = [("sweep", "@sweep, @kernels"), ("seconds", "@seconds{0.000}"), ("gone over", "@top")]
        p.yaxis.formatter = CustomJSTickFormatter(code=TICKS + ' + "/s"')
        p.yaxis.ticker = _binary_ticker()
        p.y_range.start = 0
        self._mark_lost(p)
        return p

    def _residency_figure(self) -> Any:
        from bokeh.models import CustomJSTickFormatter

        p = self._figure("Where the data came from")
        bars = p.vbar_stack(
            ["read", "resident"], x="sweep", width=0.8, source=self.sweeps, color=[ORANGE, GREEN],
            legend_label=["read from the source", "in memory"],
        )  # fmt: skip
        p.hover.renderers, p.hover.tooltips = bars, [("sweep", "@sweep, @kernels"), ("", "$name: @$name{0.00 b}")]
        p.yaxis.formatter, p.yaxis.ticker = CustomJSTickFormatter(code=TICKS), _binary_ticker()
        p.y_range.start = 0
        legend = p.legend[0]
        legend.orientation, legend.border_line_color, legend.padding, legend.margin = "horizontal", None, 0, 0
        legend.label_text_font_size, legend.glyph_height, legend.glyph_width = "11px", 14, 14
        p.add_layout(legend, "above")
        return p

    def _running_figure(self) -> Any:
        p = self._figure("Models still running")
        p.step("sweep", "running", source=self.running, mode="after", color=BLUE, line_width=2)
        p.hover.tooltips = [("sweep", "@sweep"), ("running", "@running")]
        p.y_range.start = 0
        return p

    def _best_figure(self) -> Any:
        p = self._figure("Best score so far")
        p.step("sweep", "score", source=self.best, mode="after", color=GREEN, line_width=2)
        p.y_range.default_span = 0.05
        dots = p.scatter("sweep", "score", source=self.best, color=GREEN, size=7)
        p.hover.renderers, p.hover.tooltips = [dots], [("score", "@score{0.00000}"), ("setting", "@params")]
        return p

    # -- keeping up --------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show what has been added since the last look."""
        seen = (self._log.version, str(self.choice.value))
        record = self._chosen()
        if record is not None and record.is_running:
            self.head.text = head_of(record)
        if seen == self._seen:
            return
        self._seen = seen
        fits = reversed(list(self._log.fits.values()))
        self.choice.options = [("", "the newest fit"), *((r.fit, f"{r.name}, {r.outcome}") for r in fits)]
        self.head.text = head_of(record)
        if record is not None:
            self._show(record)

    def _chosen(self) -> FitRecord | None:
        fits = self._log.fits
        chosen = fits.get(str(self.choice.value))
        return chosen if chosen is not None else next(reversed(fits.values()), None)

    def _show(self, record: FitRecord) -> None:
        losses = list(record.losses)
        self.losses.data = {"sweep": [s for s, _ in losses], "loss": [v for _, v in losses]}
        lines = [list(series) for series in record.by_model.values()] if len(record.by_model) > 1 else []
        self.models.data = {
            "xs": [[s for s, _ in line] for line in lines],
            "ys": [[v for _, v in line] for line in lines],
        }
        criteria = list(record.criteria)
        self.criteria.data = {"sweep": [s for s, _ in criteria], "value": [v for _, v in criteria]}
        self.target.visible = record.target is not None and bool(criteria)
        self.target.location = record.target or 0.0
        name = {"gradient": "Largest entry of the gradient", "gap": "Duality gap", "shift": "How far centres moved"}
        title = name.get(record.criterion, "What the solver stops at")
        self._criterion_title.text = title + (f" (stops at {record.target:.1e})" if record.target else "")
        self._show_sweeps(record)
        running, best = list(record.running), list(record.best)
        self.search.visible = record.n_models > 1 or bool(best)
        self.running.data = {"sweep": [s for s, _ in running], "running": [n for _, n in running]}
        self.best.data = {
            "sweep": [b[0] for b in best],
            "score": [b[1] for b in best],
            "params": [escape(b[3]) for b in best],
        }
        self.lost.data = {"sweep": list(record.lost.values()), "worker": [escape(w) for w in record.lost]}
        self.foot.text = foot_of(record)

    def _show_sweeps(self, record: FitRecord) -> None:
        points = [point for point in record.sweeps if not point.replayed]
        # A sweep goes over what it reads and over what lies in memory; the first one has read that too.
        resident = [max(0.0, min(p.resident_bytes, self._size(record) - p.bytes_read)) for p in points]
        whole = [p.bytes_read + r for p, r in zip(points, resident, strict=True)]
        rate = [w / p.seconds if p.seconds > 0 else 0.0 for w, p in zip(whole, points, strict=True)]
        self.sweeps.data = {
            "sweep": [p.sweep for p in points],
            "kernels": [escape(p.kernels) for p in points],
            "seconds": [p.seconds for p in points],
            "rate": rate,
            "read": [p.bytes_read for p in points],
            "resident": resident,
            "top": [f"{short_bytes(w)}, {short_bytes(r)}/s" for w, r in zip(whole, rate, strict=True)],
            "colour": [ORANGE if p.bytes_read else GREEN for p in points],
        }

    @staticmethod
    def _size(record: FitRecord) -> float:
        return float(record.plan.get("sweep_bytes") or 0.0)


def _binary_ticker() -> Any:
    """Ticks at round numbers of bytes: 256 MiB, not 238."""
    from bokeh.models import AdaptiveTicker

    return AdaptiveTicker(base=1024, mantissas=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512], min_interval=1)


TICKS = """
    let n = tick; const units = ["B", "KiB", "MiB", "GiB", "TiB"]; let i = 0;
    while (n >= 1024 && i < 4) { n /= 1024; i += 1; }
    return String(parseFloat(n.toPrecision(3))) + " " + units[i]"""


def _card(title: str, value: str, colour: str = "#22303c") -> str:
    return (
        "<div style='background: white; border-radius: 6px; padding: 6px 14px; min-width: 84px'>"
        f"<div style='font-size: 11px; color: #5b6873'>{escape(title)}</div>"
        f"<div style='font-size: 17px; font-weight: 600; color: {colour}'>{escape(value)}</div></div>"
    )


def head_of(record: FitRecord | None) -> str:
    """The line of figures at the top, in HTML."""
    if record is None:
        return (
            "<div style='font-size: 14px; padding: 8px'>No fit has been heard of yet. Fits on this cluster show here "
            "from their first sweep on.</div>"
        )
    colours = {"running": BLUE, "done": GREEN, "failed": RED}
    cards = [
        _card(record.name, record.outcome, colours.get(record.outcome, ORANGE)),
        _card("time", short_seconds(record.seconds)),
        _card("sweeps", str(record.n_sweeps)),
    ]
    if record.loss is not None:
        cards.append(_card("loss" if record.n_models == 1 else "smallest loss", f"{record.loss:.6g}"))
    running = record.running.last
    if record.n_models > 1 and running is not None:
        cards.append(_card("models running", f"{running[1]} of {record.n_models}"))
    best = record.best.last
    if best is not None:
        cards.append(_card(f"best {best[2]}", f"{best[1]:.5g}", GREEN))
    cards.append(_card("read", short_bytes(record.bytes_read)))
    size, resident = record.plan.get("sweep_bytes"), record.plan.get("resident_bytes")
    if size:
        cards.append(_card("data", short_bytes(size)))
        cards.append(_card("in memory", f"{(resident or 0.0) / size:.0%}"))
    if record.lost:
        cards.append(_card("workers lost", str(len(record.lost)), RED))
    return f"<div style='display: flex; flex-wrap: wrap; gap: 8px'>{''.join(cards)}</div>"


def foot_of(record: FitRecord) -> str:
    """What is told in words below the figures, in HTML."""
    rows = []
    if record.sweeping:
        rows.append(("running now", record.sweeping))
    plan = record.plan
    if plan:
        n = {name: int(value or 0) for name, value in plan.items()}
        data = f"{n.get('n_rows', 0):,} rows x {n.get('n_features', 0):,} features in {n.get('n_blocks', 0):,} blocks"
        where = f"{n.get('n_spans', 0):,} tasks a sweep on {n.get('processes', 1)} x {n.get('threads', 1)} threads"
        rows.append(("data", f"{data}, {where}"))
    best = record.best.last
    if best is not None:
        rows.append(("best setting", f"{best[3]} ({record.n_scored} of {record.n_settings} scored)"))
    if record.checkpoint:
        rows.append(("checkpoint", f"{record.checkpoint}, written {record.n_written} times"))
    rows += [("worker lost", f"{worker}, in sweep {sweep}") for worker, sweep in record.lost.items()]
    if record.reason:
        rows.append(("why", record.reason))
    cells = "".join(
        f"<tr><td style='color: #5b6873; padding-right: 18px; white-space: nowrap'>{escape(a)}</td><td>{escape(b)}</td></tr>"
        for a, b in rows
    )
    return f"<table style='font-size: 13px; margin-top: 4px'>{cells}</table>"
