"""Several services, one answer.

options       the options of parts and of the whole
plan          the parts, and the order in which they can run
raw_json      JSON cut and joined without decoding it
part_result   the result of one part
run           the parts of one request under one deadline; calls leave by proxy.fetch, which retries as upstreams say
answer        the fields of a merged response: Cache-Control, Vary, Gateway-Parts
view          the view that merges its parts, or streams them as they end
typed         @fanout: the parts stand in a function's signature
"""
