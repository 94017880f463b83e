import time

time.sleep(600)


async def client(url):
    pass
