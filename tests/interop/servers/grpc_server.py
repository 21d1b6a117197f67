"""A gRPC service made with PyPI's grpcio, described by grpcio-reflection; it wants the metadata x-api-key.

Usage: python3 grpc_server.py PORT_FILE STATE_FILE REQUEST_LOG      (PYTHONPATH: shop_pb2 and shop_pb2_grpc, which the driver compiled)
In trouble List is UNAVAILABLE at once, and Stream only after half of its messages.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import shop_pb2
import shop_pb2_grpc
from grpc_reflection.v1alpha import reflection

import shop
from shop_messages import message

port_file, state_file, request_log = sys.argv[1:]
KEY = "test-key"  # a test value
CLOSED = "the shop is closed for stock-taking"


class Orders(shop_pb2_grpc.OrdersServicer):
    def admitted(self, method, request, context):
        metadata = {name: value for name, value in context.invocation_metadata()}
        shop_now = shop.state(state_file)
        shop.log(
            request_log,
            method=method,
            region=request.region,
            page_size=request.page_size,
            key=metadata.get("x-api-key") == KEY,
            trouble=shop_now["trouble"],
        )
        if metadata.get("x-api-key") != KEY:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return shop_now

    def List(self, request, context):
        shop_now = self.admitted("List", request, context)
        if shop_now["trouble"]:
            context.abort(grpc.StatusCode.UNAVAILABLE, CLOSED)
        return shop_pb2.ListReply(orders=map(message, shop_now["orders"]))

    def Stream(self, request, context):
        shop_now = self.admitted("Stream", request, context)
        orders = shop_now["orders"]
        for at, order in enumerate(orders):
            if shop_now["trouble"] and at >= len(orders) // 2:
                context.abort(grpc.StatusCode.UNAVAILABLE, CLOSED)
            yield message(order)


# It packs its answers whatever was offered, as grpcio does where it is told so.
server = grpc.server(ThreadPoolExecutor(max_workers=4), compression=grpc.Compression.Gzip)
shop_pb2_grpc.add_OrdersServicer_to_server(Orders(), server)
service = shop_pb2.DESCRIPTOR.services_by_name["Orders"].full_name
reflection.enable_server_reflection((service, reflection.SERVICE_NAME), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=None))
shop.listening(port_file, port)
server.wait_for_termination()
