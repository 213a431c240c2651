"""The dashboard: Streamlit pages and Plotly figures over a study's results. Needs no Ray and never writes."""
