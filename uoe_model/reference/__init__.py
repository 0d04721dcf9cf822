"""The authors' released Union of Experts (github.com/YujiaoYang-work/UoE, commit 5f2306b), quirks included.

Written anew from what that code computes, so that its checkpoint runs and its numbers come out. The paper is
arXiv 2503.02495; defects have our ids, L of the classifier and M of the language model.
"""
