# A slow cable between two network interfaces, HOST and NET: a frame that comes in at HOST goes out at NET so many ms later, in order; one
# that comes in at NET goes out at HOST at once. netns.ts puts it between a host and the bridge: few kernels that tests meet have netem.
#
# Prints a line when it has started. Each line that it then reads is a delay in ms, which holds for all that is under way too, and is answered
# with the same line; the first one plugs the cable in. It ends when there is nothing more to read.
#
# The kernel leaves checksums and the cutting of segments to network cards, which such interfaces are not: what comes here is unfinished, and
# up to 64 KiB. PACKET_VNET_HDR puts before each frame what is left to do, and takes it back with it.

import collections
import os
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, ETH_P_ALL = 263, 15, 3
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BUFFER_BYTES = 16 << 20
FRAME_BYTES_MAX = 128 << 10
# More under way: they are dropped, as on any cable.
FRAMES_MAX = 10_000


def plug(name):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    end.setblocking(False)
    end.bind((name, ETH_P_ALL))
    return end


def receive(end):
    """A frame that came; None where there is none, or where it is one that goes out."""
    try:
        frame, source = end.recvfrom(FRAME_BYTES_MAX)
    except OSError:  # The interface is down.
        return None
    return None if source[2] == socket.PACKET_OUTGOING else frame


def send(end, frame):
    try:
        end.send(frame)
    except OSError:  # The interface is down, or full.
        pass


def main(host_name, net_name):
    print('started', flush=True)
    line = os.read(0, 100)
    if not line:
        return
    host, net = plug(host_name), plug(net_name)
    under_way = collections.deque()
    while line:
        delay_s = float(line) / 1000
        os.write(1, line)
        line = None
        while line is None:
            wait_s = max(0, under_way[0][0] + delay_s - time.monotonic()) if under_way else None
            ready, _, _ = select.select([0, host, net], [], [], wait_s)
            if host in ready and (frame := receive(host)) and len(under_way) < FRAMES_MAX:
                under_way.append((time.monotonic(), frame))
            if net in ready and (frame := receive(net)):
                send(host, frame)
            while under_way and under_way[0][0] + delay_s <= time.monotonic():
                send(net, under_way.popleft()[1])
            if 0 in ready:
                line = os.read(0, 100)


main(*sys.argv[1:])
