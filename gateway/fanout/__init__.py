"""Several services, one answer.

options       the options of a fan-out and of its parts
plan          the parts, and the order in which they can run
raw_json      JSON cut and joined without decoding it
part_result   how one part ended
run           the parts of one request while they run, under one deadline
answer        what the merged answer says of its parts: freshness, Vary, Gateway-Parts
view          the view that merges its parts, or streams them as they end
typed         @fanout: the parts stand in a function's signature
"""
