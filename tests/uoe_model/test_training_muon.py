"""The Muon update: orthogonal, per matrix of a stack, decayed."""

import torch

from uoe_model.training.muon import Muon, orthogonalised


def test_singular_values_come_close_to_one():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 40), (40, 16), (2, 24, 24)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=generator)))
        assert float(values.min()) > 0.3
        assert float(values.max()) < 1.5


def test_every_matrix_of_a_stack_is_updated_by_itself():
    stack = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(1))
    stacked = orthogonalised(stack)
    for number in range(3):
        torch.testing.assert_close(stacked[number], orthogonalised(stack[number]))


def test_a_step_moves_against_the_gradient_by_the_scaled_rate():
    weight = torch.nn.Parameter(torch.zeros(8, 12))
    gradient = torch.randn(8, 12, generator=torch.Generator().manual_seed(2))
    weight.grad = gradient.clone()
    Muon([weight], lr=0.5).step()
    torch.testing.assert_close(weight.detach(), -0.5 * 0.2 * 12**0.5 * orthogonalised(gradient), rtol=1e-4, atol=1e-5)


def test_weight_decay_shrinks_what_has_no_gradient_to_follow():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))
