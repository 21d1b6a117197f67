"""Documents over HTTP, each written by somebody's library: RSS and Atom by PyPI's feedgen, XML and HTML by lxml, CSV by Python.

Usage: python3 documents_server.py PORT_FILE STATE_FILE REQUEST_LOG
The feeds show the newest orders only, the other three all of them. In trouble a document ends in the middle, with status 200; the HTML page,
which has no wrong end, is a 503.
"""

import csv
import io
import sys

from feedgen.feed import FeedGenerator
from lxml import etree
from lxml.html import builder, tostring

import shop

port_file, state_file, request_log = sys.argv[1:]
SITE = "https://shop.example"
NEWEST = 8


def feed(orders):
    made = FeedGenerator()
    made.id(f"{SITE}/orders")
    made.title("Orders")
    made.description("What was ordered")
    made.link(href=f"{SITE}/orders", rel="alternate")
    for order in orders[-NEWEST:]:
        entry = made.add_entry()
        entry.id(f"urn:order:{order['id']}")
        entry.title(f"{order['customer']}: {order['status']}")
        entry.link(href=f"{SITE}/orders/{order['id']}")
        entry.summary(f"<p>{order['total']} {order['currency']}</p>")
        entry.content(", ".join(line["sku"] for line in order["lines"]) or "nothing", type="html")
        entry.published(order["placed"])
        entry.updated(order["placed"])
        entry.author(name="Sales", email="sales@shop.example")
        entry.category(term=order["status"])
    return made


def rss(orders):
    return "application/rss+xml", feed(orders).rss_str(pretty=True)


def atom(orders):
    return "application/atom+xml", feed(orders).atom_str(pretty=True)


def xml(orders):
    root = etree.Element("{urn:shop:orders}orders", nsmap={"o": "urn:shop:orders", None: "urn:shop:lines"})
    for order in orders:
        element = etree.SubElement(root, "{urn:shop:orders}order", id=order["id"], currency=order["currency"])
        for name in ("customer", "status", "total"):
            etree.SubElement(element, f"{{urn:shop:orders}}{name}").text = order[name]
        if order["note"] is not None:
            etree.SubElement(element, "{urn:shop:orders}note").text = etree.CDATA(order["note"])
        for line in order["lines"]:
            etree.SubElement(element, "{urn:shop:lines}line", sku=line["sku"]).text = str(line["count"])
    # Not UTF-8, and only the declaration says so.
    return "application/xml", etree.tostring(root, xml_declaration=True, encoding="iso-8859-1", pretty_print=True)


def csv_(orders):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=";")
    writer.writerow(["id", "customer", "status", "total", "note"])
    writer.writerows([order["id"], order["customer"], order["status"], order["total"], order["note"] or ""] for order in orders)
    return "text/csv; charset=utf-8", out.getvalue().encode()


def html(orders):
    rows = [
        builder.TR(
            builder.TD(builder.A(order["id"], href=f"/orders/{order['id']}")),
            builder.TD(builder.CLASS("customer"), order["customer"]),
            builder.TD(builder.CLASS("status"), order["status"]),
        )
        for order in orders
    ]
    page = builder.HTML(builder.HEAD(builder.TITLE("Orders")), builder.BODY(builder.TABLE(builder.TBODY(*rows), id="orders")))
    return "text/html; charset=utf-8", tostring(page, doctype="<!DOCTYPE html>", encoding="utf-8")


DOCUMENTS = {"/orders.rss": rss, "/orders.atom": atom, "/orders.xml": xml, "/orders.csv": csv_, "/orders.html": html}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path not in DOCUMENTS:
        start_response("404 Not Found", [("content-length", "0")])
        return [b""]
    shop_now = shop.state(state_file)
    shop.log(request_log, path=path, trouble=shop_now["trouble"])
    status, (content_type, body) = "200 OK", DOCUMENTS[path](shop_now["orders"])
    if shop_now["trouble"]:
        if path == "/orders.html":
            status, body = "503 Service Unavailable", b"<!DOCTYPE html><title>Closed</title><p>the shop is closed for stock-taking"
        else:
            # Every format can tell: CSV too, when its last row is short of a field.
            body = body[: body.rindex(b";")] if path == "/orders.csv" else body[: len(body) * 3 // 4]
    start_response(status, [("content-type", content_type), ("content-length", str(len(body)))])
    return [body]


shop.serve_wsgi(application, port_file)
