"""What makes the cells of a picture that an image model routes."""

import torch
from torch import Tensor, nn

from uoe_model.config import UoEConfig
from uoe_model.errors import ConfigError


class ImageStem(nn.Module):
    """Pixels to a grid of cells; every convolution but a channel-keeping one halves the side while it is too large."""

    def __init__(self, config: UoEConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = config.num_channels, config.image_size
        for width in config.stem_channels:
            stride = 2 if side > config.grid_size and width != channels else 1
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.GELU()]
            channels, side = width, side // stride
        if side % config.grid_size:
            raise ConfigError(f"image stem: side {side} is no multiple of grid_size={config.grid_size}")
        stride = side // config.grid_size
        self.convolutions = nn.Sequential(*layers)
        self.project = nn.Conv2d(channels, config.hidden_size, stride, stride)
        self.class_token = nn.Parameter(torch.zeros(config.hidden_size)) if config.class_token else None
        self.position = nn.Parameter(torch.zeros(config.grid_size**2 + config.class_token, config.hidden_size))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, C, side, side) to cells (B, T, D), row by row; a class token stands before them."""
        pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        cells: Tensor = self.project(self.convolutions(pixels_BCHW))
        cells_BTD = cells.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            cells_BTD = torch.cat([self.class_token.expand(len(cells_BTD), 1, -1), cells_BTD], 1)
        return cells_BTD + self.position
