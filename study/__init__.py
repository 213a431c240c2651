"""A hyperparameter study: many training runs under one Optuna study, as Ray Tune trials."""
