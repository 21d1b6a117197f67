"""A SOAP service made with PyPI's spyne: /soap11 wants a WS-Security UsernameToken, /soap12 is open.

Usage: python3 soap_server.py PORT_FILE STATE_FILE REQUEST_LOG
Three namespaces: the service's, the orders' and their lines'. In trouble it answers with a Fault.
"""

import sys

from spyne import Application, Array, ComplexModel, Fault, Integer, ServiceBase, Unicode, XmlAttribute, rpc
from spyne.protocol.soap import Soap11, Soap12
from spyne.server.wsgi import WsgiApplication

import shop

port_file, state_file, request_log = sys.argv[1:]

SERVICE, ORDERS, LINES = "urn:shop:service", "urn:shop:orders", "urn:shop:lines"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
USER, PASSWORD = "bell", "test-password"  # a test value


class UsernameToken(ComplexModel):
    __namespace__ = WSSE
    Username = Unicode
    Password = Unicode


class Security(ComplexModel):
    __namespace__ = WSSE
    UsernameToken = UsernameToken


class Line(ComplexModel):
    __namespace__ = LINES
    _type_info = [("sku", Unicode), ("count", Integer)]


class Order(ComplexModel):
    __namespace__ = ORDERS
    _type_info = [
        ("currency", XmlAttribute(Unicode)),
        ("id", Unicode),
        ("customer", Unicode),
        ("status", Unicode),
        ("total", Unicode),
        ("note", Unicode(min_occurs=0)),
        ("lines", Array(Line)),
    ]


def orders(endpoint):
    shop_now = shop.state(state_file)
    shop.log(request_log, endpoint=endpoint, trouble=shop_now["trouble"])
    if shop_now["trouble"]:
        raise Fault("Server.Closed", "the shop is closed for stock-taking")
    return [
        Order(
            lines=[Line(**line) for line in order["lines"]],
            **{name: order[name] for name in ("currency", "id", "customer", "status", "total", "note")},
        )
        for order in shop_now["orders"]
    ]


class Guarded(ServiceBase):
    __in_header__ = Security

    @rpc(Unicode, _returns=Array(Order))
    def ListOrders(ctx, region):
        token = getattr(ctx.in_header, "UsernameToken", None)
        if token is None or (token.Username, token.Password) != (USER, PASSWORD):
            raise Fault("Client.Authentication", "who are you?")
        return orders("soap11")


class Open(ServiceBase):
    @rpc(Unicode, _returns=Array(Order))
    def ListOrders(ctx, region):
        return orders("soap12")


soap11 = WsgiApplication(Application([Guarded], SERVICE, name="Guarded", in_protocol=Soap11(validator="lxml"), out_protocol=Soap11()))
soap12 = WsgiApplication(Application([Open], SERVICE, name="Open", in_protocol=Soap12(validator="lxml"), out_protocol=Soap12()))


def application(environ, start_response):
    return (soap12 if environ["PATH_INFO"].startswith("/soap12") else soap11)(environ, start_response)


shop.serve_wsgi(application, port_file)
