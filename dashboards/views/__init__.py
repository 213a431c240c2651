"""One page per file: `render(study)` lays out widgets and figures; numbers come from frames, drawings from figures.

Not called `pages`, a name that Streamlit would take for an app of its own and list before ours has begun.
"""
