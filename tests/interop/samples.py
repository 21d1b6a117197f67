def run(d): pass
def versions(): return {}
