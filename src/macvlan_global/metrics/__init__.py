"""Metrics for Prometheus: counts on the paths of requests, the one description of each metric, and the exposition.

A hot path adds to a plain integer of `counts`; labels are looked up once. `admin.readings` reads the counts and the
state of the other rooms when somebody scrapes, and asks no store. `description` is the only place for names, labels and
help: docs/metrics.md and the exposition are made from it.
"""
