"""What every room shares: tables, parameters, storage, metrics, determinism, logging."""
