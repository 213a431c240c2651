"""One FIPO training run: loss, rollouts, rewards, evaluation. Knows no Ray, no Optuna, no Streamlit."""
