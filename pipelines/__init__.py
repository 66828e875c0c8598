"""Command lines and the runs behind them."""
