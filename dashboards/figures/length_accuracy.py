"""Accuracy against response length, one curve per trial in step order: the paper's Figure 3(f) for a whole study."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text

POINT, END = 5, 11


def length_accuracy(
    curves: pl.DataFrame,
    *,
    colour: str | None,
    length: str = "mean",
    error: str | None = "sampling",
    best: int | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw the points of `frames.curves`.

    Args:
        colour: dotted key whose values stand in the column `colour`; None colours by the trial's state.
        length: a key of `frames.LENGTHS`, for the axis title.
        error: a key of `frames.ERRORS`, for the hover text.
        best: number of the trial to draw last and name.
        dark: whether the page's theme is dark.
    """
    figure = go.Figure()
    numeric = curves["colour"].dtype.is_numeric()
    scale = palette.scale(curves["colour"].to_list(), dark) if colour and numeric else None
    classes = [] if scale or not colour else curves["colour"].drop_nulls().unique(maintain_order=True).sort().to_list()
    groups = curves.partition_by("trial", maintain_order=True, as_dict=False)
    # Controls and the best trial are drawn last, on top.
    for points in sorted(groups, key=lambda p: (p["trial"][0] == best, p["control"][0] is not None)):
        row = points.row(0, named=True)
        named = row["trial"] == best or row["control"] is not None
        shade = _shade(row, colour, scale, classes, dark)
        figure.add_trace(
            go.Scatter(
                x=points["length"],
                y=points["accuracy"],
                error_y=_bars(points, shade),
                mode="lines+markers",
                line={"color": shade, "width": 3 if named else 1.8, "dash": "dot" if row["control"] else "solid"},
                marker={
                    "color": shade,
                    "symbol": [palette.STATE_SYMBOLS[row["state"]] if last else "circle" for last in points["last"]],
                    "size": [END if last else POINT for last in points["last"]],
                    "line": {"width": 0},
                    "opacity": 1.0,
                },
                opacity=1.0 if named else (0.55 if row["state"] in ("PRUNED", "FAIL") else 0.9),
                name=text.in_plotly(row["label"]),
                meta=row["trial"],
                customdata=_hover_columns(points),
                hovertemplate=_hover(row, colour, error),
                showlegend=False,
            )
        )
        if named:
            _tag(figure, points.row(-1, named=True), best, dark)
    _legend(figure, curves, classes, colour, dark)
    if scale:
        _colour_bar(figure, scale, colour or "")
    samples = curves["samples"].unique()
    k = samples[0] if samples.len() == 1 else "k"
    figure.update_layout(
        xaxis={"title": f"{length} response length (tokens)", "rangemode": "normal", "zeroline": False},
        yaxis={"title": f"accuracy, avg@{k}", "tickformat": ".0%", "zeroline": False},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None, "itemclick": False,
                "itemdoubleclick": False},
        margin={"l": 10, "r": 40, "t": 10, "b": 10},
        height=560,
        hovermode="closest",
        uirevision="keep",
    )  # fmt: skip
    return figure


def _shade(
    row: dict[str, object], colour: str | None, scale: palette.Scale | None, classes: list[str], dark: bool
) -> str:
    if row["control"] is not None:
        return palette.foreground(dark)
    if colour is None:
        return palette.STATE_COLOURS[str(row["state"])]
    value = row["colour"]
    if value is None:
        return palette.NEUTRAL
    if scale:
        return scale.colour(float(value))  # type: ignore[arg-type]
    return palette.CATEGORIES[classes.index(str(value)) % len(palette.CATEGORIES)]


def _tag(figure: go.Figure, end: dict[str, object], best: int | None, dark: bool) -> None:
    """Name the trial beside its newest point: the best above, controls below, so that the two don't collide."""
    name, is_best = str(end["control"] or f"#{end['trial']}"), end["trial"] == best
    figure.add_annotation(
        x=end["length"],
        y=end["accuracy"],
        text=f"<b>{text.in_plotly(name)}</b>" + (" best" if is_best else ""),
        ax=34,
        ay=-26 if is_best else 30,
        arrowwidth=1,
        arrowhead=0,
        standoff=6,
        arrowcolor=palette.foreground(dark),
        font={"color": palette.foreground(dark), "size": 13},
        bgcolor=palette.background(dark),
        opacity=0.9,
        borderpad=2,
    )


def _bars(points: pl.DataFrame, shade: str) -> dict[str, object] | None:
    if points["error"].null_count() == len(points):
        return None
    return {"type": "data", "array": points["error"], "thickness": 1, "width": 2, "color": shade}


def _hover_columns(points: pl.DataFrame) -> list[tuple[object, ...]]:
    rows = points.select("step", "samples", "problems", "accuracy", "error").iter_rows()
    return [(step, k, n, text.accuracy(accuracy, error)) for step, k, n, accuracy, error in rows]


def _hover(row: dict[str, object], colour: str | None, error: str | None) -> str:
    value = row["colour"]
    setting = f"<br>{text.in_plotly(text.label(colour))} {text.in_plotly(text.number(value))}" if colour else ""
    what = f" ({error} error)" if error else ""
    return (
        f"<b>{text.in_plotly(str(row['label']))}</b> {str(row['state']).lower()}{setting}<br>step %{{customdata[0]}}"
        f"<br>%{{customdata[3]}}{what}<br>%{{x:.1f}} tokens<br>"
        "%{customdata[2]} problems × %{customdata[1]} responses<extra></extra>"
    )


def _legend(figure: go.Figure, curves: pl.DataFrame, classes: list[str], colour: str | None, dark: bool) -> None:
    """Empty traces that explain the shapes (how each trial ended), the classes of colour and the controls."""
    states = [state for state in palette.STATE_SYMBOLS if state in set(curves["state"].to_list())]
    for state in states:
        shade = palette.NEUTRAL if colour else palette.STATE_COLOURS[state]
        marker = {"symbol": palette.STATE_SYMBOLS[state], "size": END, "color": shade}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=state.lower(), marker=marker))
    for index, name in enumerate(classes):
        line = {"color": palette.CATEGORIES[index % len(palette.CATEGORIES)], "width": 3}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name=text.in_plotly(name), line=line))
    if curves["control"].drop_nulls().len():
        line = {"color": palette.foreground(dark), "width": 3, "dash": "dot"}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name="control", line=line))


def _colour_bar(figure: go.Figure, scale: palette.Scale, colour: str) -> None:
    low, high = scale.bounds
    marker = {
        "color": [low],
        "cmin": low,
        "cmax": high if high > low else low + 1,
        "colorscale": palette.sequential(scale.dark),
        "showscale": True,
        "size": 0.1,
        "colorbar": {
            "title": {"text": text.in_plotly(text.label(colour)), "side": "right"},
            "tickvals": [scale.position(tick) for tick in scale.ticks],
            "ticktext": [text.number(tick) for tick in scale.ticks],
            "thickness": 14,
            "outlinewidth": 0,
        },
    }
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip"))
