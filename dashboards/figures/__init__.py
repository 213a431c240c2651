"""Plotly figures as pure functions: a frame in, a Figure out. Always SVG: a page may hold more charts
than a browser has WebGL contexts.
"""
