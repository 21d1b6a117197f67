"""What Prometheus scrapes, made with PyPI's prometheus-client: how many days each order is overdue.

Usage: python3 exporter.py PORT_FILE STATE_FILE REQUEST_LOG      State: {"overdue": {"order's id": days}}
"""

import sys

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily

import shop

port_file, state_file, request_log = sys.argv[1:]


class Overdue:
    def collect(self):
        metric = GaugeMetricFamily("order_overdue_days", "Days since the order was due", labels=["order", "severity"])
        for order, days in shop.state(state_file)["overdue"].items():
            metric.add_metric([order, "page" if int(order) % 2 else "ticket"], days)
        yield metric


registry = CollectorRegistry()
registry.register(Overdue())
shop.serve_wsgi(make_wsgi_app(registry), port_file)
