"""Several services, one answer.

options       the options of parts and of the whole
plan          the parts, and the order in which they can run
raw_json      JSON cut and joined without decoding it
part_result   the result of one part
run           the parts of one request under one deadline; proxy.fetch makes the calls, with the retries of upstreams
answer        the fields of a merged response: Cache-Control, Vary, Gateway-Parts
view          the view that merges its parts, or streams them as they end
typed         @fanout: the parts are parameters in a function's signature
"""
