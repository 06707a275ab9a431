"""Real games, as a small sample of the data that the larger tests read from the folder `shared`.

Source: Chinese Chess Practical Dataset (CCPD), Yu-Han Tseng and Bo-Nian Chen (2026),
github.com/Yvonne761/Chinese-Chess-Practical-Dataset at 368a47a. Licence: CC BY 4.0
(creativecommons.org/licenses/by/4.0). Changes: a few games were selected and converted from Chinese notation to ICCS;
players' names and other headers were left out.
"""

# (moves, result)
GAMES = [
    (
        "h2e2 h7e7 i0i1 h9g7 h0g2 i9h9 i1d1 d9e8 d1d8 b9a7 a3a4 h9h4 b0a2 g6g5 d8b8 b7d7 a2b4 g5g4 g3g4 h4g4 a4a5 "
        "a6a5 a0a5 d7d2 e2e1 d2f2 e1g1 e7e3 g1g4 c9e7 b4c2",
        "1-0",
    ),
    (
        "g0e2 g6g5 h2f2 h9g7 h0g2 i9h9 b0c2 c6c5 i0i1 b9c7 i1d1 g7f5 c3c4 c5c4 e2c4 d9e8 f2f4 h7g7 c4e2 c9e7 a0a1 "
        "h9h3 d1f1 a9d9 a1d1 d9d1 f1d1 h3g3 c2d4 f5d4 d1d4 c7b5",
        "0-1",
    ),
    (
        "h2e2 h9g7 h0g2 i9h9 i0h0 b9c7 b0c2 g6g5 c3c4 h7h3 a0a1 c9e7 a1d1 d9e8 d1d4 a9d9 d4f4 d9d3 e2f2 b7b3 g3g4 "
        "d3c3 g0e2 b3e3 c2e3 c3e3 f2f9 e3g3 f9h9 g7h9 g4g5 e7g5 f4h4",
        "1-0",
    ),
    (
        "b0c2 g6g5 h2e2 h9g7 h0g2 i9h9 i0i1 b9c7 e3e4 d9e8 c2e3 g7f5 b2d2 b7b3 c3c4 b3g3 g0i2 h7h3 e3c2 c9e7 i1f1 "
        "f5e3 a0b0 a9d9 f0e1 e3c4 d2d4 c6c5 e2e6 c7e6 e4e5 e6g7 c0e2 c4a3",
        "0-1",
    ),
    (
        "h2e2 b9c7 h0g2 h7f7 c3c4 h9g7 g3g4 i9h9 b2c2 c9e7 c2c6 h9h5 c6g6 d9e8 i0h0 h5b5 b0c2 f7f2 c2e1 a9d9 g2f4 "
        "b5f5 e1g2 c7b5 f0e1 f2f3 h0h3 f3a3 h3h8 d9d1 h8f8 e8f7 e2f2 f5h5 g6g9 f9e8 f4e6",
        "1-0",
    ),
    (
        "g3g4 h7g7 h2e2 b7e7 b0c2 b9c7 a0b0 g6g5 h0i2 g5g4 i0h0 a9a8 f0e1 a8f8 b2b6 c6c5 b6c6 c9a7 e2f2 h9i7 g0e2 "
        "f8f4 h0h5 i9h9 h5g5 g7f7 f2f7 f4f7 g5g4 h9h2 c6i6 f7f6 i6i4 i7g6 g4d4 f9e8 i4i9",
        "0-1",
    ),
    (
        "c3c4 b7c7 h2e2 c9e7 h0g2 c6c5 i0h0 c5c4 b0a2 i9i8 a0b0 i8d8 d0e1 d8d4 b2d2 d9e8 b0b8 h9i7 e2e6 i6i5 g0e2 "
        "a6a5 e3e4 d4d8 b8b6 d8d3 e4e5 c4c3 g2e3 c3c2 d2d0 b9a7 e3d5 a9b9 b6a6 b9b7 a6c6 h7g7 c6c2 d3g3 h0h7",
        "1-0",
    ),
    (
        "h2e2 h9g7 h0g2 i9h9 i0h0 h7h3 g3g4 b7e7 c3c4 a9a8 b0c2 a8h8 a0b0 h3g3 h0i0 h8h5 c2d4 h5d5 b2b4 b9a7 e2d2 "
        "d5b5 c4c5 b5c5 b4b7 g7e8 g0e2 h9h5 f0e1 e7h7 i0f0 g3h3 g4g5 c5g5 f0f8 e8c7 b7b5 h5h6 d4f5 h3f3 b5g5",
        "1-0",
    ),
    (
        "h2e2 h7e7 h0g2 h9g7 i0h0 i9i8 b0c2 b7d7 b2b6 b9c7 b6e6 g7e6 e2e6 d9e8 e6e4 i8f8 f0e1 a9b9 g0e2 f8f5",
        "1/2-1/2",
    ),
    (
        "c3c4 b7c7 h2e2 c9e7 b0a2 i9i8 e2e6 d9e8 h0g2 i8f8 g3g4 b9d8 e6e5 a9b9 a0b0 b9b5 e3e4 f8f3 i0h0 h9i7 g0e2 "
        "h7f7 h0h1 f3d3 h1f1 e9d9 f0e1 c7b7 b2b7 b5b0 a2b0 d8b7 b0c2 c6c5 c2b4 d3d6 f1f3 i7g8 f3c3 d6b6 b4c2 b6e6 "
        "c3e3 c5c4 e2c4 b7a5 c0e2 a5c6 e3b3 c6e5 b3b9 d9d8 e4e5 e6e5 c2b4 e5c5 g2f4 g8f6 f4e6 c5c8 c4a2 e8d9 e6d4 "
        "d8e8 b9b6 f6e4 b6e6 e4g3 e6f6 f7f8 f6f3 g3i2 b4c6 i2g1 f3f1 g1h3 f1f3 h3g1 f3f1 g1h3 e1f0 e8e9 f0e1 f8i8 "
        "e0f0 i8f8 f0e0 f8i8 c6e5 d9e8 e5g6 i8i3 g6e5 c8c3 a3a4 i3i4 e5f3 i6i5 f1h1 h3f4 h1h5 f4d3 h5i5 i4d4 f3d4 "
        "d3c1 e0f0 c3d3 i5i2 d3d4 e2c4 c1b3 i2b2 b3c5 b2b5 d4g4 f0e0 c5e4 b5b2 g4g3 a2c0 e4g5 e1f0 g3c3 c4e2 g5f3 "
        "b2b1 c3a3 b1f1 f3d2 f1d1 d2e4 d0e1 a3a4 d1c1 a4a3 c1c2 a3d3 c2a2 e4c5 a2d2 d3b3 c0a2 a6a5 e2c0 a5a4 e0d0 "
        "a4b4 d2d4 b3b0 e1f2 b4a4 f0e1 a4a3",
        "0-1",
    ),
    (
        "h2e2 h9g7 h0g2 i9h9 i0h0 g6g5 c3c4 b9c7 b0c2 b7b3 e3e4 h7h3 a0a1 b3c3 c0a2 a9b9 a1d1 b9b3 d1d7 g9e7 d7c7 "
        "f9e8 f0e1 h3h4 g3g4 g5g4 g2h4 h9h4 h0h4 g4h4 c7c8 c3h3 c8d8 h3h0 g0i2 g7h5 d8d5 h4h3 d5f5 h5g3 f5f4 g3h1 "
        "f4f1 h1g3 f1f2 c6c5 c4c5 g3e4 f2g2 h0i0 e2e6 h3g3 g2e2 e4c5 c2d4 b3b4 a2c4 c5e6 d4e6 i0i3 a3a4 i3i5 c4a2 "
        "i5b5 b2c2 b4a4 e6c7 b5b0 c2c0 a4b4 c7d5 b4b3 e2e6 e8f7 e6a6 d9e8 a6i6 b3d3 d5b6 g3g2 i6g6 g2h2 b6c4 d3b3 "
        "i2g0 h2h1 c4d6 b3d3 g6h6 e7g9 d6c4 d3b3 h6h1 b0a0 h1h9 c9e7 c4d2 b3b2 g0e2 b2a2 h9h6 a2c2 e2c4 a0b0 h6a6 "
        "e7c9 a6a0 b0b5 a0a3 b5c5 c0b0 c2b2 b0a0 b2b6 a3a5 g9e7 a0a3 b6e6 a5b5 e8d9 b5b3 e6f6 b3h3 f7e8 a3e3 c5e5 "
        "h3h5 e5e6 c4e2 f6f3 d2c4 e6e2 e1d2 e9f9 h5h9 f9f8 h9h2 f3f0 e0e1 f0f4 c4b6 e2f2 e3a3 c9a7 b6d5 f4f3 a3a6 "
        "e7c5 a6b6 e8d7 b6b9 a7c9 h2h8 f8f9 h8d8 d7e8 d8e8 f3f7 e8d8",
        "1-0",
    ),
]
