import os

os._exit(3)


async def client(url):
    pass
