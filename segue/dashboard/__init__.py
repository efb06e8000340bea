"""The dashboard for stakeholders: KPIs with their bands, incidents, segments, clusters, scores and the rest.

Promises: pages are plain HTML with drawings inside, readable on a phone, by keyboard and without JavaScript; every
filter stands in the address; an empty or failed page says what to do; a page is never older than the warehouse.
Never: shows a person or an identifier, only sums; writes anything but what a reader says of an incident.
"""

from segue.dashboard.app import make_app
from segue.dashboard.server import serve

__all__ = ["make_app", "serve"]
